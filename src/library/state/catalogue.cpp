// SPDX-License-Identifier: Apache-2.0
#include "state/catalogue.h"

#include "base/clean_text.h"
#include "base/counters.h"
#include "base/hash.h"
#include "thread/log.h"
#include "thread/thread_state.h"

#include <nopspan/engine.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/mcp.h>
#include <nopspan/probes.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <stdexcept>
#include <string>

namespace nopspan {
namespace {

using detail::Catalogue;
using detail::CatalogueSpan;
using detail::Shape;

// Sorted by catalogue.
constexpr CatalogueSpan kSpans[] = {
    {"llm.chat", Catalogue::llm, Shape::standard, SpanKind::client, "chat"},
    {"llm.generate", Catalogue::llm, Shape::standard, SpanKind::client, "chat"},
    {"llm.image", Catalogue::llm, Shape::standard, SpanKind::client, "image"},
    {"llm.step", Catalogue::llm, Shape::standard, SpanKind::client, "chat"},
    {"llm.stream", Catalogue::llm, Shape::standard, SpanKind::client, "chat"},
    {"llm.tool", Catalogue::llm, Shape::standard, SpanKind::internal, "execute_tool"},
    {"agent.compaction", Catalogue::agent, Shape::compaction, SpanKind::internal, ""},
    {"agent.coordinator.iteration", Catalogue::agent, Shape::iteration, SpanKind::internal, "invoke_agent"},
    {"agent.llm", Catalogue::agent, Shape::agent, SpanKind::client, "chat"},
    {"agent.operator.iteration", Catalogue::agent, Shape::iteration, SpanKind::internal, "invoke_agent"},
    {"agent.tool", Catalogue::agent, Shape::agent, SpanKind::internal, "execute_tool"},
    {"engine.decode", Catalogue::engine, Shape::standard, SpanKind::internal, ""},
    {"engine.device", Catalogue::engine, Shape::standard, SpanKind::internal, ""},
    {"engine.load", Catalogue::engine, Shape::standard, SpanKind::internal, ""},
    {"engine.prefill", Catalogue::engine, Shape::standard, SpanKind::internal, ""},
    {"engine.queue", Catalogue::engine, Shape::standard, SpanKind::internal, ""},
    {"engine.request", Catalogue::engine, Shape::standard, SpanKind::server, "chat"},
    {"engine.step", Catalogue::engine, Shape::standard, SpanKind::internal, "", NOPSPAN_FLAG_STEP},
    {"engine.transfer", Catalogue::engine, Shape::standard, SpanKind::internal, ""},
    {"gen_ai.create_agent", Catalogue::genai, Shape::standard, SpanKind::client, "create_agent"},
    {"gen_ai.create_memory", Catalogue::genai, Shape::standard, SpanKind::client, "create_memory"},
    {"gen_ai.create_memory_store", Catalogue::genai, Shape::standard, SpanKind::client, "create_memory_store"},
    {"gen_ai.delete_memory", Catalogue::genai, Shape::standard, SpanKind::client, "delete_memory"},
    {"gen_ai.delete_memory_store", Catalogue::genai, Shape::standard, SpanKind::client, "delete_memory_store"},
    {"gen_ai.invoke_agent", Catalogue::genai, Shape::standard, SpanKind::internal, "invoke_agent"},
    {"gen_ai.invoke_workflow", Catalogue::genai, Shape::standard, SpanKind::internal, "invoke_workflow"},
    {"gen_ai.plan", Catalogue::genai, Shape::standard, SpanKind::internal, "plan"},
    {"gen_ai.retrieval", Catalogue::genai, Shape::standard, SpanKind::client, "retrieval"},
    {"gen_ai.search_memory", Catalogue::genai, Shape::standard, SpanKind::client, "search_memory"},
    {"gen_ai.update_memory", Catalogue::genai, Shape::standard, SpanKind::client, "update_memory"},
    {"gen_ai.upsert_memory", Catalogue::genai, Shape::standard, SpanKind::client, "upsert_memory"},
    {"mcp.client", Catalogue::mcp, Shape::standard, SpanKind::client, ""},
    {"mcp.server", Catalogue::mcp, Shape::standard, SpanKind::server, ""},
};
constexpr std::string_view kLlmPrefix = "llm.";
// In the order of Catalogue. Programs may have spans of their own below the other catalogues' prefixes.
constexpr std::string_view kPrefixes[] = {kLlmPrefix, "agent."};

bool has_prefix(std::string_view name, std::string_view prefix) noexcept {
  return name.substr(0, prefix.size()) == prefix;
}

// Sets `catalogue` to the one whose prefix the name has. False if there is none.
bool find_catalogue(std::string_view name, Catalogue& catalogue) noexcept {
  for (unsigned i = 0; i < std::size(kPrefixes); ++i) {
    if (!has_prefix(name, kPrefixes[i])) continue;
    catalogue = static_cast<Catalogue>(i);
    return true;
  }
  return false;
}

// Hashes of the unknown names that were logged. If the table is full, further names are counted but not logged.
constexpr std::size_t kReported = 64;
std::atomic<std::uint64_t> reported[kReported];

bool first_report(std::string_view name) noexcept {
  const std::uint64_t hash = detail::hash_bytes(name) | 1U;
  for (std::atomic<std::uint64_t>& slot : reported) {
    std::uint64_t there = slot.load(std::memory_order_relaxed);
    if (there == 0 && slot.compare_exchange_strong(there, hash, std::memory_order_relaxed)) return true;
    if (there == hash) return false;
  }
  return false;
}

// `last` is the name without its catalogue's prefix, at most 63 bytes.
detail::LogLine unknown_message(std::string_view last, Catalogue catalogue) noexcept {
  const std::string_view prefix = kPrefixes[static_cast<unsigned>(catalogue)];
  detail::LogLine message;
  message.add("unknown span name \"").add_printable(last, kMaxNameBytes, "\"").add("\"; valid: ");
  const char* separator = "";
  for (const CatalogueSpan& known : kSpans) {
    if (known.catalogue != catalogue) continue;
    message.add(separator).add(known.name.substr(prefix.size()));
    separator = ", ";
  }
  return message;
}

// The events of a span.
#define NOPSPAN_EVENTS_OF(span) span ".start", span ".stop", span ".exception"
// Not generated from kSpans, because these are in the order of the documents.
constexpr std::string_view kLlmEvents[] = {NOPSPAN_EVENTS_OF("llm.generate"),
                                           NOPSPAN_EVENTS_OF("llm.stream"),
                                           NOPSPAN_EVENTS_OF("llm.step"),
                                           NOPSPAN_EVENTS_OF("llm.chat"),
                                           NOPSPAN_EVENTS_OF("llm.tool"),
                                           NOPSPAN_EVENTS_OF("llm.image"),
                                           "llm.adapter.retry"};
constexpr std::string_view kEngineEvents[] = {NOPSPAN_EVENTS_OF("engine.request"),
                                              NOPSPAN_EVENTS_OF("engine.queue"),
                                              NOPSPAN_EVENTS_OF("engine.prefill"),
                                              NOPSPAN_EVENTS_OF("engine.decode"),
                                              NOPSPAN_EVENTS_OF("engine.step"),
                                              NOPSPAN_EVENTS_OF("engine.load"),
                                              NOPSPAN_EVENTS_OF("engine.transfer"),
                                              NOPSPAN_EVENTS_OF("engine.device"),
                                              "engine.preempted",
                                              "engine.swapped",
                                              "engine.evicted",
                                              "engine.prefix_cache",
                                              "engine.rejected",
                                              "engine.stats"};
constexpr std::string_view kGenAiEvents[] = {NOPSPAN_EVENTS_OF("gen_ai.retrieval"),
                                             NOPSPAN_EVENTS_OF("gen_ai.create_memory_store"),
                                             NOPSPAN_EVENTS_OF("gen_ai.delete_memory_store"),
                                             NOPSPAN_EVENTS_OF("gen_ai.create_memory"),
                                             NOPSPAN_EVENTS_OF("gen_ai.update_memory"),
                                             NOPSPAN_EVENTS_OF("gen_ai.upsert_memory"),
                                             NOPSPAN_EVENTS_OF("gen_ai.delete_memory"),
                                             NOPSPAN_EVENTS_OF("gen_ai.search_memory"),
                                             NOPSPAN_EVENTS_OF("gen_ai.create_agent"),
                                             NOPSPAN_EVENTS_OF("gen_ai.invoke_agent"),
                                             NOPSPAN_EVENTS_OF("gen_ai.plan"),
                                             NOPSPAN_EVENTS_OF("gen_ai.invoke_workflow")};
constexpr std::string_view kMcpEvents[] = {NOPSPAN_EVENTS_OF("mcp.client"), NOPSPAN_EVENTS_OF("mcp.server")};
#undef NOPSPAN_EVENTS_OF

}  // namespace

namespace detail {

const CatalogueSpan* find_catalogue_span(std::string_view name) noexcept {
  if (!may_be_in_catalogue(name)) return nullptr;
  for (const CatalogueSpan& known : kSpans) {
    if (known.name == name) return &known;
  }
  return nullptr;
}

void check_catalogue(const Interned& name) noexcept {
  const std::string_view text(name.text, name.size);
  Catalogue catalogue{};
  if (!find_catalogue(text, catalogue)) return;
  count(counters.names_unknown);
  const ThreadState* thread = locals.state;
  if (thread != nullptr && thread->busy) return;  // a signal handler that may have interrupted the log
  if (!first_report(text)) return;
  const std::string_view last = text.substr(kPrefixes[static_cast<unsigned>(catalogue)].size());
  log(LogLevel::warning, NoSink::keep, unknown_message(last, catalogue).add("; it is emitted anyway").view());
}

}  // namespace detail

namespace llm::detail {

const Name* find_span(Text name) noexcept {
  static constexpr Name kNames[] = {llm::chat, llm::generate, llm::image, llm::step, llm::stream, llm::tool};
  for (const Name& known : kNames) {
    if (known.view().substr(kLlmPrefix.size()) == name.view()) return &known;
  }
  return nullptr;
}

void throw_unknown_span(Text name) {
  char cleaned[kMaxNameBytes + 1];
  const std::size_t size = nopspan::detail::clean(name.view(), cleaned);
  throw std::invalid_argument(std::string(unknown_message({cleaned, size}, Catalogue::llm).view()));
}

Name event_name(Text suffix) noexcept {
  char text[256];  // enough, because intern() truncates names to 63 bytes
  std::memcpy(text, kLlmPrefix.data(), kLlmPrefix.size());
  const std::size_t size = std::min(suffix.size(), sizeof(text) - kLlmPrefix.size());
  if (size > 0) std::memcpy(text + kLlmPrefix.size(), suffix.data(), size);
  return Name::intern({text, kLlmPrefix.size() + size});
}

}  // namespace llm::detail

EventNames llm::event_names() noexcept { return {kLlmEvents, std::size(kLlmEvents)}; }

EventNames engine::event_names() noexcept { return {kEngineEvents, std::size(kEngineEvents)}; }

EventNames genai::span_event_names() noexcept { return {kGenAiEvents, std::size(kGenAiEvents)}; }

EventNames mcp::event_names() noexcept { return {kMcpEvents, std::size(kMcpEvents)}; }

}  // namespace nopspan
