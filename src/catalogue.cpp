// SPDX-License-Identifier: Apache-2.0
#include "catalogue.h"

#include "clean_text.h"
#include "counters.h"
#include "hash.h"
#include "log.h"

#include <nopspan/llm.h>

#include <atomic>
#include <stdexcept>
#include <string>

namespace nopspan {
namespace {

constexpr std::string_view kLlmPrefix = "llm.";
constexpr Name kLlmSpans[] = {llm::chat, llm::generate, llm::image, llm::step, llm::stream, llm::tool};

// Hashes of names that were reported. Bounded: what finds no place is not logged, only counted.
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

std::string unknown_message(std::string_view name) {
  std::string message = "unknown span name \"" + std::string(name) + "\"; valid: ";
  const char* separator = "";
  for (const Name& known : kLlmSpans) {
    message += separator;
    message += known.view().substr(kLlmPrefix.size());
    separator = ", ";
  }
  return message;
}

}  // namespace

namespace detail {

void check_catalogue(const Interned& name) noexcept {
  const std::string_view text(name.text, name.size);
  if (__builtin_expect(text.substr(0, kLlmPrefix.size()) != kLlmPrefix, 1)) return;
  const std::string_view last = text.substr(kLlmPrefix.size());
  if (llm::detail::find_span(last) != nullptr) return;
  count(counters.names_unknown);
  if (!first_report(text)) return;
  try {
    log(LogLevel::warning, unknown_message(last) + "; it is emitted all the same");
  } catch (const std::bad_alloc&) {
  }
}

}  // namespace detail

namespace llm::detail {

const Name* find_span(Text name) noexcept {
  for (const Name& known : kLlmSpans) {
    if (known.view().substr(kLlmPrefix.size()) == name.view()) return &known;
  }
  return nullptr;
}

void throw_unknown_span(Text name) {
  char cleaned[kMaxNameBytes + 1];
  const std::size_t size = nopspan::detail::clean(name.view(), cleaned);
  throw std::invalid_argument(unknown_message({cleaned, size}));
}

}  // namespace llm::detail
}  // namespace nopspan
