// SPDX-License-Identifier: Apache-2.0
// nopspan_mini.h writes the same bytes as the library for the same calls. Only random ids and measured times differ.
#include "copies.h"
#include "in_thread.h"
#include "recorded.h"
#include "sanitizers.h"

#include <nopspan/engine.h>
#include <nopspan/llm.h>
#include <nopspan/probes.h>
#include <nopspan/version.h>
#include <nopspan_mini.h>

#include <pthread.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <thread>

// In mini.c: the errors that the next hits of the batch site will report.
extern "C" unsigned mini_errors_of_batches();

namespace {

namespace engine = nopspan::engine;

const nopspan_gate_page& page_of(const std::uint64_t* gate) {
  return *reinterpret_cast<const nopspan_gate_page*>(gate);
}
const nopspan_gate_page& library() { return page_of(nopspan_gate_ptr); }
const nopspan_gate_page& mini() { return page_of(npm1_gate); }

// The header of a thread's buffer, as a tracer finds it.
const nopspan_thread& thread_of(const nopspan_gate_page& page, pid_t id = gettid()) {
  const auto mark = *reinterpret_cast<const unsigned long*>(page.process_mark);
  for (auto at = page.threads; at != 0;) {
    const auto& thread = *reinterpret_cast<const nopspan_thread*>(at);
    if (thread.mark == mark && thread.thread_id == static_cast<unsigned>(id)) return thread;
    at = thread.next_thread;
  }
  throw std::runtime_error("this thread has no buffer");
}

// The bytes of a thread's buffer without what differs between two runs: ids are replaced by the order in which they
// appear, and times that were measured by 0.
class Written {
 public:
  explicit Written(const nopspan_gate_page& page) : header_(thread_of(page)) {
    bytes_.assign(reinterpret_cast<const char*>(header_.buffer), header_.bytes);
    for (std::size_t at = 0; at < bytes_.size();) {
      const auto size = get<unsigned short>(at);
      if (size == 0) throw std::runtime_error("a record without a size");
      edit(at, get<unsigned char>(at + 2));
      at += (size + 7U) & ~7U;
    }
    constexpr std::string_view kId = "nopspan.request_id\x12\x18\n\x16";
    for (std::size_t at = 0; (at = bytes_.find(kId, at)) != std::string::npos; at += kId.size()) {
      bytes_.replace(at + kId.size(), 22, 22, '?');
    }
  }

  [[nodiscard]] const std::string& bytes() const { return bytes_; }
  // Eight bytes in a line.
  [[nodiscard]] std::string readable() const {
    std::string text;
    char byte[8];
    for (std::size_t i = 0; i < bytes_.size() && i < 1200; ++i) {
      const auto value = static_cast<unsigned char>(bytes_[i]);
      std::snprintf(byte, sizeof(byte), value >= 0x20 && value < 0x7f ? " '%c" : " %02x", value);
      text += byte;
      if (i % 8 == 7) text += '\n';
    }
    return text;
  }
  [[nodiscard]] std::vector<unsigned long> summary() const {
    return {header_.next - header_.first,
            header_.bytes,
            header_.open_entries,
            header_.requests,
            header_.name_bits,
            header_.model_bits};
  }

 private:
  template <class T>
  T get(std::size_t at) const {
    T value;
    std::memcpy(&value, bytes_.data() + at, sizeof(value));
    return value;
  }
  template <class T>
  void set(std::size_t at, T value) {
    std::memcpy(&bytes_[at], &value, sizeof(value));
  }
  void name(std::size_t at) {
    const auto id = get<std::uint64_t>(at);
    if (id != 0) set(at, names_.emplace(id, names_.size() + 1).first->second);
  }
  void edit(std::size_t at, unsigned char kind) {
    if (kind == NOPSPAN_SHARED_REQUEST) {
      name(at + offsetof(nopspan_request, trace_id));
      name(at + offsetof(nopspan_request, trace_id) + 8);
      name(at + offsetof(nopspan_request, root_id));
      set(at + offsetof(nopspan_request, start_ns), std::uint64_t{0});
    } else if (kind < NOPSPAN_NOT_AN_ENTRY) {
      const auto form = std::size_t{get<unsigned short>(at + offsetof(nopspan_entry, form))} * 8;
      const auto parts = get<unsigned>(form + offsetof(nopspan_form, parts));
      name(at + offsetof(nopspan_entry, span_id));
      name(at + offsetof(nopspan_entry, parent_id));
      if ((get<unsigned>(form + offsetof(nopspan_form, flags)) & NOPSPAN_FLAG_GIVEN_TIMES) == 0) {
        set(at + offsetof(nopspan_entry, start_ns), std::uint64_t{0});
      }
      std::size_t part = at + sizeof(nopspan_entry);
      if ((parts & NOPSPAN_PART_TIMES) != 0) part += 16;
      if ((parts & NOPSPAN_PART_USAGE) != 0) part += 32;
      if ((parts & NOPSPAN_PART_FIRST_TOKEN) != 0) {
        set(part, std::uint64_t{0});
        part += 8;
      }
      if ((parts & NOPSPAN_PART_ENGINE) != 0) set(part, std::uint64_t{0});  // the arrival
    }
  }

  nopspan_thread header_;
  std::string bytes_;
  std::map<std::uint64_t, std::uint64_t> names_;
};

// Raises the gate of the header for spans in batches.
struct Raised {
  explicit Raised(std::uint64_t bits = std::uint64_t{1} << 16U) { npm1_gate[0] = bits; }
  ~Raised() { npm1_gate[0] = 0; }
  Raised(const Raised&) = delete;
  Raised& operator=(const Raised&) = delete;
};

// What a thread writes by calls of the library and by the same calls of the header. `begin` begins the root span.
template <class Library, class Header>
void expect_equal(const Library& by_library, const Header& by_mini) {
  std::thread([&] {
    const auto raise = [](std::uint64_t bits) {
      *const_cast<std::uint64_t*>(nopspan_gate_ptr) = bits;
      npm1_gate[0] = bits;
    };
    raise(std::uint64_t{1} << 16U);
    // The first entry of a thread is flushed at once, and later ones only with a root span or after 100 ms.
    { AsyncSpan first{"first"}; }
    npm_span_end(npm_span_begin("first", npm_none()));
    AsyncSpan root{"root"};
    const npm_span mini_root = npm_span_begin("root", npm_none());
    by_library(root.context());
    const Written expected(library());
    by_mini(mini_root);
    const Written found(mini());
    raise(0);
    root.end();
    npm_span_end(mini_root);
    EXPECT_TRUE(expected.bytes() == found.bytes()) << expected.readable() << "\nby the header:\n" << found.readable();
    EXPECT_EQ(expected.summary(), found.summary());
    EXPECT_GT(found.summary()[0], 0U);
  }).join();
}

TEST(Mini, WritesSpansAsTheLibraryDoes) {
  expect_equal(
      [](const Context& root) {
        AsyncSpan request{"http.request", root, {nopspan::SpanKind::server}};
        AsyncSpan query{"db.query", request.context()};
        AsyncSpan again{"db.query", request.context()};
        query.end();
        again.fail("timeout");
        AsyncSpan{"db.commit", request.context()}.cancel("client_closed");
        AsyncSpan{"db.commit", request.context()}.fail("could not connect");
        AsyncSpan{std::string(80, 'n'), request.context()}.end();
        AsyncSpan{"caf\u00e9\n\xff", request.context()}.end();
        request.end();
      },
      [](npm_span root) {
        const npm_span request = npm_span_begin("http.request", root);
        npm_span_set_kind(request, NPM_SERVER);
        const npm_span query = npm_span_begin("db.query", request);
        const npm_span again = npm_span_begin("db.query", request);
        npm_span_end(query);
        npm_span_fail(again, "timeout");
        npm_span_cancel(npm_span_begin("db.commit", request), "client_closed");
        npm_span_fail(npm_span_begin("db.commit", request), "could not connect");
        npm_span_end(npm_span_begin(std::string(80, 'n').c_str(), request));
        npm_span_end(npm_span_begin("caf\u00e9\n\xff", request));
        npm_span_end(request);
      });
}

TEST(Mini, WritesAttributesAsTheLibraryDoes) {
  expect_equal(
      [](const Context& root) {
        AsyncSpan span{"work", root, [&](Fields& f) {
                         f.set("text", "value").set("int", 12).set("negative", -7).set("big", std::int64_t{1} << 40U);
                         f.set("real", 1.5).set("yes", true).set("no", false).set("empty", "");
                         f.set("long", std::string(300, 'x')).set("utf8", "\u00e9\u20ac\U0001F600").set("int", 13);
                         f.set("bad",
                               "a\xff"
                               "b\xc3")
                             .set("numbers", Value::list({1, -1, 1000000}));
                         f.set("texts", Value::list({"a", "", "ccc"})).set("text", std::string(200, 'y'));
                       }};
        span.end();
      },
      [](npm_span root) {
        const std::int64_t numbers[] = {1, -1, 1000000};
        const char* const texts[] = {"a", "", "ccc"};
        const npm_span span = npm_span_begin("work", root);
        npm_span_set_text(span, "text", "value");
        npm_span_set_int(span, "int", 12);
        npm_span_set_int(span, "negative", -7);
        npm_span_set_int(span, "big", std::int64_t{1} << 40U);
        npm_span_set_double(span, "real", 1.5);
        npm_span_set_bool(span, "yes", 1);
        npm_span_set_bool(span, "no", 0);
        npm_span_set_text(span, "empty", "");
        npm_span_set_text(span, "long", std::string(300, 'x').c_str());
        npm_span_set_text(span, "utf8", "\u00e9\u20ac\U0001F600");
        npm_span_set_int(span, "int", 13);
        npm_span_set_text(span, "bad",
                          "a\xff"
                          "b\xc3");
        npm_span_set_ints(span, "numbers", numbers, 3);
        npm_span_set_texts(span, "texts", texts, 3);
        npm_span_set_text(span, "text", std::string(200, 'y').c_str());
        npm_span_end(span);
      });
}

// The keys that docs/genai.md marks, and some that are like them.
TEST(Mini, LeavesContentOutAsTheLibraryDoes) {
  static constexpr const char* kKeys[] = {
      "error.message",
      "error.type",
      "exception.message",
      "exception.stacktrace",
      "exception.type",
      "gen_ai.completion",
      "gen_ai.completion.0.content",
      "gen_ai.evaluation.explanation",
      "gen_ai.event.content",
      "gen_ai.input.messages",
      "gen_ai.memory.query.text",
      "gen_ai.memory.records",
      "gen_ai.output.messages",
      "gen_ai.prompt",
      "gen_ai.prompt.0.content",
      "gen_ai.prompt.name",
      "gen_ai.request.model",
      "gen_ai.retrieval.documents",
      "gen_ai.retrieval.query.text",
      "gen_ai.system_instructions",
      "gen_ai.tool.arguments",
      "gen_ai.tool.call.arguments",
      "gen_ai.tool.call.id",
      "gen_ai.tool.call.result",
      "gen_ai.tool.definitions",
      "nopspan.chat_result",
      "nopspan.code",
      "nopspan.error",
      "nopspan.error.message",
      "nopspan.insight",
      "nopspan.intent",
      "nopspan.message",
      "nopspan.notification",
      "nopspan.reason",
      "nopspan.response",
      "nopspan.result",
      "nopspan.stacktrace",
      "nopspan.step_result",
      "nopspan.thought",
      "otel.status_description",
      "arguments",
      "content",
      "result",
  };
  expect_equal(
      [](const Context& root) {
        AsyncSpan span{"work", root};
        for (const char* key : kKeys) span.set(key, "secret");
        span.end();
      },
      [](npm_span root) {
        const npm_span span = npm_span_begin("work", root);
        for (const char* key : kKeys) npm_span_set_text(span, key, "secret");
        npm_span_end(span);
      });
}

TEST(Mini, LeavesContentOutUnderNamesThatCataloguesDoNotHave) {
  static constexpr const char* kNames[] = {
      "llm.caht", "agent.operator.think", "gen_ai.user.message", "gen_ai.load", "gen_ai.assistant.message",
      "mcp.call", "engine.tune",          "llm.tools",           "agents"};
  static constexpr const char* kKeys[] = {"arguments", "content", "error",      "input_messages", "message", "reason",
                                          "response",  "result",  "tool_calls", "thought",        "row"};
  expect_equal(
      [](const Context& root) {
        for (const char* name : kNames) {
          AsyncSpan span{nopspan::Text(name), root};
          for (const char* key : kKeys) span.set(key, "secret");
          span.end();
        }
      },
      [](npm_span root) {
        for (const char* name : kNames) {
          const npm_span span = npm_span_begin(name, root);
          for (const char* key : kKeys) npm_span_set_text(span, key, "secret");
          npm_span_end(span);
        }
      });
}

TEST(Mini, ReadsFactsByTheNamesOfAttributesAsTheLibraryDoes) {
  expect_equal(
      [](const Context& root) {
        AsyncSpan span{"chat gpt-4o-mini", root};
        span.set("gen_ai.request.model", "gpt-4o-mini").set("gen_ai.usage.input_tokens", 7);
        span.set("gen_ai.usage.reasoning.output_tokens", 2).set("gen_ai.usage.output_tokens", "many");
        AsyncSpan{"inside", span.context()}.end();
        span.end();
      },
      [](npm_span root) {
        const npm_span span = npm_span_begin("chat gpt-4o-mini", root);
        npm_span_set_text(span, "gen_ai.request.model", "gpt-4o-mini");
        npm_span_set_int(span, "gen_ai.usage.input_tokens", 7);
        npm_span_set_int(span, "gen_ai.usage.reasoning.output_tokens", 2);
        npm_span_set_text(span, "gen_ai.usage.output_tokens", "many");
        npm_span_end(npm_span_begin("inside", span));
        npm_span_end(span);
      });
}

// The library writes other attributes on these spans.
TEST(Mini, LeavesContentOfCataloguesOut) {
  std::thread([] {
    npm1_gate[0] = std::uint64_t{1} << 16U;
    npm_span_end(npm_span_begin("first", npm_none()));  // flushed at once
    const npm_span root = npm_span_begin("work", npm_none());
    for (const auto& [name, keys] : std::initializer_list<std::pair<const char*, std::vector<const char*>>>{
             {"llm.chat", {"input_messages", "chat_result", "content", "message", "reason", "response"}},
             {"agent.llm", {"message", "reason", "stacktrace"}},
             {"llm.tool", {"arguments", "result"}},
             {"agent.tool", {"intent", "result", "arguments"}},
             {"mcp.client", {"arguments", "result"}},
             {"engine.request", {"input_messages", "error"}}}) {
      const npm_span span = npm_span_begin(name, root);
      for (const char* key : keys) npm_span_set_text(span, key, "SECRET");
      npm_span_set_text(span, "row", "public");
      npm_span_end(span);
    }
    const npm_span retry = npm_event_begin("gen_ai.retry", root);
    npm_span_set_text(retry, "reason", "rate_limit");
    npm_span_end(retry);
    const std::string bytes = Written(mini()).bytes();
    EXPECT_THAT(bytes, AllOf(HasSubstr("public"), HasSubstr("rate_limit")));
    EXPECT_THAT(bytes, Not(HasSubstr("SECRET")));
    npm_span_end(root);
    npm1_gate[0] = 0;
  }).join();
}

TEST(Mini, WritesGivenTimesAsTheLibraryDoes) {
  const std::uint64_t now = nopspan::now_ns(), long_ago = now - 5'000'000'000;
  expect_equal(
      [=](const Context& root) {
        nopspan::complete("device.copy", root, nopspan::Time(now), 500);
        nopspan::complete("device.wait", root, nopspan::Time(long_ago), 4'900'000'000);
      },
      [=](npm_span root) {
        npm_span span = npm_span_begin("device.copy", root);
        npm_span_set_times(span, now, now + 500);
        npm_span_end(span);
        span = npm_span_begin("device.wait", root);
        npm_span_set_times(span, long_ago, long_ago + 4'900'000'000);
        npm_span_end(span);
      });
}

TEST(Mini, WritesEventsAsTheLibraryDoes) {
  // The library finds the name of an event's span if that is a scope. The scope stays open until the thread ends.
  static thread_local std::optional<ContextScope> scope;
  static thread_local std::optional<Span> work;
  expect_equal(
      [](const Context& root) {
        scope.emplace(root);
        work.emplace("work");
        work->event("cache.miss", [](Fields& f) { f.set("key", "users").set("tries", 3); });
        work->event("cache.hit");
      },
      [](npm_span root) {
        const npm_span span = npm_span_begin("work", root);
        const npm_span event = npm_event_begin("cache.miss", span);
        npm_span_set_text(event, "key", "users");
        npm_span_set_int(event, "tries", 3);
        npm_span_end(event);
        npm_span_end(npm_event_begin("cache.hit", span));
      });
}

TEST(Mini, WritesRetriesAsTheLibraryDoes) {
  // The library finds the name of a retry's span if that is a scope. The scope stays open until the thread ends.
  static thread_local std::optional<ContextScope> scope;
  static thread_local std::optional<Span> work;
  expect_equal(
      [](const Context& root) {
        scope.emplace(root);
        work.emplace("work");
        nopspan::llm::retry([](auto& f) { f.attempt(1).delay_ms(500).reason("rate_limit"); });
        nopspan::llm::retry([](auto& f) { f.attempt(2).delay_ms(std::numeric_limits<std::int64_t>::max()); });
        nopspan::llm::retry([](auto& f) { f.attempt(3).delay_ms(0).reason("the server said \"no\"\n"); });
      },
      [](npm_span root) {
        const npm_span span = npm_span_begin("work", root);
        npm_retry(span, 1, 500, "rate_limit");
        npm_retry(span, 2, std::numeric_limits<std::int64_t>::max(), nullptr);
        npm_retry(span, 3, 0, "the server said \"no\"\n");
      });
}

TEST(Mini, WritesKindsOfSpansAsTheLibraryDoes) {
  expect_equal(
      [](const Context& root) {
        using nopspan::SpanKind;
        for (const SpanKind kind :
             {SpanKind::internal, SpanKind::server, SpanKind::client, SpanKind::producer, SpanKind::consumer}) {
          AsyncSpan{"work", root, {kind}}.end();
        }
      },
      [](npm_span root) {
        for (const int kind : {NPM_INTERNAL, NPM_SERVER, NPM_CLIENT, NPM_PRODUCER, NPM_CONSUMER}) {
          const npm_span span = npm_span_begin("work", root);
          npm_span_set_kind(span, kind);
          npm_span_end(span);
        }
      });
}

// Sets what the library sets on each span of its catalogues.
void set_own_attributes(npm_span span, const char* operation) {
  if (operation != nullptr) npm_span_set_text(span, "gen_ai.operation.name", operation);
  npm_span_set_text(span, "nopspan.request_id", std::string(22, '?').c_str());
}

// Tokens and a tool are counted for the innermost span that has them. All spans around it know that.
TEST(Mini, CountsTokensOfTheInnermostSpanAsTheLibraryDoes) {
  expect_equal(
      [](const Context& root) {
        AsyncSpan outer{"work", root};
        AsyncSpan middle{"work", outer.context()};
        AsyncSpan inner{"work", middle.context()};
        AsyncSpan innermost{"work", inner.context()};
        innermost.end();
        inner.with([](Fields& f) {
          f.set("input_tokens", 100).set("output_tokens", 20).set("cached_tokens", 30).set("reasoning_tokens", 5);
        });
        inner.end();
        middle.end();
        outer.with([](Fields& f) { f.set("input_tokens", 100).set("output_tokens", 20); });
        outer.end();
      },
      [](npm_span root) {
        const npm_span outer = npm_span_begin("work", root);
        const npm_span middle = npm_span_begin("work", outer);
        const npm_span inner = npm_span_begin("work", middle);
        npm_span_end(npm_span_begin("work", inner));
        npm_span_set_usage(inner, 100, 20, 30, 5);
        npm_span_set_int(inner, "input_tokens", 100);
        npm_span_set_int(inner, "output_tokens", 20);
        npm_span_set_int(inner, "cached_tokens", 30);
        npm_span_set_int(inner, "reasoning_tokens", 5);
        npm_span_end(inner);
        npm_span_end(middle);
        npm_span_set_usage(outer, 100, 20, 0, 0);
        npm_span_set_int(outer, "input_tokens", 100);
        npm_span_set_int(outer, "output_tokens", 20);
        npm_span_end(outer);
      });
}

TEST(Mini, WritesToolsAsTheLibraryDoes) {
  expect_equal(
      [](const Context& root) {
        const auto set_tool = [](auto& f) { f.tool_name("calc"); };
        AsyncSpan outer{nopspan::llm::tool, root, set_tool};
        AsyncSpan middle{"work", outer.context()};
        AsyncSpan{nopspan::llm::tool, middle.context(), set_tool}.end();
        middle.end();
        outer.end();
      },
      [](npm_span root) {
        const auto begin_tool = [](npm_span parent) {
          const npm_span tool = npm_span_begin("llm.tool", parent);
          set_own_attributes(tool, "execute_tool");
          npm_span_set_text(tool, "gen_ai.tool.name", "calc");
          return tool;
        };
        const npm_span outer = begin_tool(root);
        const npm_span middle = npm_span_begin("work", outer);
        npm_span_end(begin_tool(middle));
        npm_span_end(middle);
        npm_span_end(outer);
      });
}

// The call of a tool that MCP carries is not counted a second time.
TEST(Mini, TakesNoToolOfASpanOfMcp) {
  const auto parts_with = [](const char* name) {
    npm_span_end(npm_span_begin("first", npm_none()));  // flushed at once
    const npm_span span = npm_span_begin(name, npm_none());
    npm_span_set_text(span, "gen_ai.tool.name", "calc");
    npm_span_end(span);
    const std::string bytes = Written(mini()).bytes();
    nopspan_form form{};
    std::memcpy(&form, &bytes[sizeof(nopspan_request)], sizeof(form));
    return form.parts;
  };
  const Raised raised;
  std::thread([&] { EXPECT_EQ(parts_with("mcp.client"), 0U); }).join();
  std::thread([&] {
    EXPECT_EQ(parts_with("execute_tool calc"), NOPSPAN_COUNTS_TOOL | NOPSPAN_PART_TEXT | NOPSPAN_PART_ATTRIBUTES);
  }).join();
}

TEST(Mini, WritesTimesOfAnEngineAsTheLibraryDoes) {
  static constexpr std::pair<const char*, std::int64_t> kTimes[] = {{"queue_ns", 1000},   {"prefill_ns", 2000},
                                                                    {"decode_ns", 3000},  {"prefill_tokens", 4},
                                                                    {"decode_tokens", 5}, {"preemptions", 6}};
  expect_equal(
      [](const Context& root) {
        AsyncSpan request{"work", root};
        request.first_token();
        request.with([](Fields& f) {
          for (const auto& [key, value] : kTimes) f.measure(key, value);
        });
        request.end();
      },
      [](npm_span root) {
        const npm_span request = npm_span_begin("work", root);
        npm_span_first_token(request);
        const npm_times times = {0, 1000, 2000, 3000, 4, 5, 6};
        npm_request_set_times(request, &times);
        for (const auto& [key, value] : kTimes) npm_span_set_int(request, key, value);
        npm_span_end(request);
      });
}

TEST(Mini, NamesTheReasonOfACancelAsTheLibraryDoes) {
  expect_equal(
      [](const Context& root) {
        AsyncSpan{"engine.queue", root}.cancel("client_closed");
      },
      [](npm_span root) {
        const npm_span span = npm_span_begin("engine.queue", root);
        set_own_attributes(span, nullptr);
        npm_span_cancel(span, "client_closed");
      });
}

TEST(Mini, WritesStepsAsTheLibraryDoes) {
  constexpr std::size_t kMembers = 530;
  expect_equal(
      [](const Context& root) {
        AsyncSpan work{"work", root};
        std::vector<engine::Member> members(kMembers);
        for (std::size_t i = 0; i < kMembers; ++i) {
          members[i] = engine::Member::of(Context(), i + 1);
          members[i].decode_tokens = 1;
          members[i].prefill_tokens = i < 200 ? 5 : 0;  // the library moves them to the front without another order
        }
        AsyncSpan step{engine::step, Context(), [](auto& f) { f.engine("llama.cpp"); }};
        step.with<engine::StepFields>([&](engine::StepFields& f) {
          f.number(7).budget_tokens(512).kv_used(100).members(members.data(), members.size());
        });
        step.end();
        work.end();
      },
      [](npm_span root) {
        const npm_span work = npm_span_begin("work", root);
        std::vector<npm_member> members;
        for (std::size_t i = 0; i < kMembers; ++i) {
          members.push_back(npm_member_of(npm_none(), i + 1));
          members[i].decode_tokens = 1;
          members[i].prefill_tokens = i < 200 ? 5 : 0;  // the library moves them to the front without another order
        }
        const npm_span step = npm_step_begin();
        npm_span_set_label(step, NPM_ENGINE, "llama.cpp");
        // The library makes these attributes of a step.
        npm_span_set_text(step, "nopspan.request_id", std::string(22, '?').c_str());
        npm_span_set_text(step, "nopspan.engine", "llama.cpp");
        npm_step facts{};
        facts.number = 7;
        facts.budget_tokens = 512;
        facts.kv_used = 100;
        npm_step_end(step, &facts, members.data(), members.size());
        npm_span_end(work);
      });
}

std::uint64_t counted(std::uint64_t nopspan::Stats::*field) {
  nopspan::Stats stats{};
  EXPECT_EQ(mini().stats_count * 8, sizeof(stats));
  std::memcpy(&stats, reinterpret_cast<const void*>(mini().stats), sizeof(stats));
  return stats.*field;
}

// How many entries all threads have written.
std::uint64_t entries() {
  std::uint64_t sum = 0;
  for (auto at = mini().threads; at != 0; at = reinterpret_cast<const nopspan_thread*>(at)->next_thread) {
    sum += reinterpret_cast<const nopspan_thread*>(at)->next;
  }
  return sum;
}

std::string traceparent_of(npm_span span, const npm_context* otherwise = nullptr) {
  char header[56];
  npm_traceparent(span, otherwise, header);
  return header;
}

static_assert(NPM_VERSION == (NOPSPAN_VERSION_MAJOR << 16 | NOPSPAN_VERSION_MINOR << 8 | NOPSPAN_VERSION_PATCH));
static_assert(sizeof(npm_step) == sizeof(nopspan_step) &&
              offsetof(npm_step, kv_used) == offsetof(nopspan_step, kv_used));
static_assert(sizeof(npm_member) == sizeof(nopspan_member));

TEST(Mini, RecordsNothingWhileNobodyTraces) {
  const npm_span span = npm_span_begin("work", npm_none());
  EXPECT_EQ(span.state, nullptr);
  npm_span_set_int(span, "rows", 1);
  npm_span_end(span);
  EXPECT_EQ(traceparent_of(span), "");
  EXPECT_EQ(npm_enabled(), 0);
}

TEST(Mini, IgnoresASpanThatHasEnded) {
  const Raised raised;
  const npm_span span = npm_span_begin("work", npm_none());
  npm_span_end(span);
  const std::uint64_t before = entries();
  npm_span_end(span);
  npm_span_set_text(span, "key", "value");
  npm_span_fail(span, "late");
  EXPECT_EQ(entries(), before);
  // Its memory belongs to another span now.
  const npm_span next = npm_span_begin("next", npm_none());
  EXPECT_EQ(next.state, span.state);
  npm_span_end(span);
  EXPECT_EQ(entries(), before);
  npm_span_end(next);
  EXPECT_EQ(entries(), before + 1);
  const npm_span child = npm_span_begin("child", span);
  EXPECT_NE(static_cast<const nopspan_open*>(child.state)->flags & NOPSPAN_FLAG_ORPHAN, 0U);
  npm_span_end(child);
}

TEST(Mini, MarksAChildOfASpanThatWasNotRecordedAsAnOrphan) {
  const npm_span before = npm_span_begin("request", npm_none());
  const Raised raised;
  const npm_span child = npm_span_begin("child", before), root = npm_span_begin("root", npm_none());
  EXPECT_NE(static_cast<const nopspan_open*>(child.state)->flags & NOPSPAN_FLAG_ORPHAN, 0U);
  EXPECT_EQ(static_cast<const nopspan_open*>(root.state)->flags & NOPSPAN_FLAG_ORPHAN, 0U);
  npm_context context = npm_span_context(before);
  const npm_span other = npm_span_begin_in("other", &context);
  EXPECT_NE(static_cast<const nopspan_open*>(other.state)->flags & NOPSPAN_FLAG_ORPHAN, 0U);
  for (const npm_span span : {child, root, other}) npm_span_end(span);
}

TEST(Mini, ReadsAndWritesTraceparentAsTheLibraryDoes) {
  const std::string good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const std::string headers[] = {good,
                                 " " + good + "\t",
                                 good + "-",
                                 good + "x",
                                 "01" + good.substr(2) + "-more",
                                 "01" + good.substr(2) + "more",
                                 "01" + good.substr(2, 50) + "-ff",
                                 "00" + good.substr(2, 50) + "-ff",
                                 "ff" + good.substr(2),
                                 good.substr(0, 54),
                                 "",
                                 "00",
                                 "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                                 "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                                 "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                                 "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
                                 "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-00",
                                 good.substr(0, 53) + "zz"};
  for (const std::string& header : headers) {
    npm_context context;
    const Context expected = Context::from_traceparent(header);
    EXPECT_EQ(npm_context_from_traceparent(&context, header.c_str()), expected.empty() ? 0 : 1) << header;
    EXPECT_EQ(traceparent_of(npm_none(), &context), expected.traceparent().view()) << header;
  }
  npm_context context;
  EXPECT_EQ(npm_context_from_traceparent(&context, nullptr), 0);
  const Raised raised;
  ASSERT_EQ(npm_context_from_traceparent(&context, good.c_str()), 1);
  const npm_span span = npm_span_begin_in("server", &context);
  const auto& open = *static_cast<const nopspan_open*>(span.state);
  EXPECT_EQ(open.parent_id, 0x00f067aa0ba902b7U);
  EXPECT_EQ(open.root_id, open.span_id);
  EXPECT_NE(open.flags & NOPSPAN_FLAG_REMOTE_PARENT, 0U);
  char own[17];
  std::snprintf(own, sizeof(own), "%016lx", open.span_id);
  EXPECT_EQ(traceparent_of(span, &context), good.substr(0, 36) + own + "-01");
  npm_span_end(span);
}

// The library's gauges also have the name of what is around them.
TEST(Mini, WritesGaugesWithTheirMaximum) {
  const Raised raised;
  struct Gauge {
    nopspan_entry entry;
    std::int64_t value, maximum;
  };
  const auto last_of = [](const std::string& bytes, std::string_view name, unsigned flags) {
    Gauge gauge{};
    nopspan_form form{};
    std::memcpy(&gauge, &bytes[bytes.size() - sizeof(gauge)], sizeof(gauge));
    std::memcpy(&form, &bytes[gauge.entry.form * 8U], sizeof(form));
    EXPECT_EQ(gauge.entry.kind, NOPSPAN_ENTRY_GAUGE);
    EXPECT_EQ(form.flags, flags);
    EXPECT_EQ(bytes.substr(form.name.offset * 8U, form.name.length), name);
    return std::pair(gauge.value, gauge.maximum);
  };
  std::thread([&] {
    npm_span_end(npm_span_begin("first", npm_none()));  // flushed at once
    npm_gauge("tiny", "running", 3, 8);
    EXPECT_EQ(last_of(Written(mini()).bytes(), "running", 0), std::pair(std::int64_t{3}, std::int64_t{8}));
    npm_gauge("", "balance", -1, 0);
    EXPECT_EQ(last_of(Written(mini()).bytes(), "balance", 0), std::pair(std::int64_t{-1}, std::int64_t{0}));
    npm_counter("tiny", "ended", 17);
    EXPECT_EQ(last_of(Written(mini()).bytes(), "ended", NOPSPAN_FLAG_COUNTER),
              std::pair(std::int64_t{17}, std::int64_t{0}));
  }).join();
}

TEST(Mini, KeepsTheTimeOfTheFirstTokenThatCame) {
  const Raised raised;
  const npm_span span = npm_span_begin("llm.chat", npm_none());
  const auto& open = *static_cast<const nopspan_open*>(span.state);
  npm_span_first_token(span);
  const std::uint64_t first_token_ns = open.first_token_ns;
  const std::uint64_t came_ns = nopspan::now_ns();
  while (nopspan::now_ns() == came_ns) {
  }
  npm_span_first_token(span);
  EXPECT_EQ(open.first_token_ns, first_token_ns);
  npm_span_end(span);
}

// A filter of errors reads this count, and not each entry.
TEST(Mini, CountsFailedSpansOfABatch) {
  const Raised raised;
  std::thread([] {
    npm_span_end(npm_span_begin("first", npm_none()));  // flushed at once
    const npm_span root = npm_span_begin("work", npm_none());
    npm_span_cancel(npm_span_begin("query", root), "client_closed");
    npm_span_end(npm_span_begin("query", root));
    npm_retry(root, 1, 10, "timeout");
    EXPECT_EQ(mini_errors_of_batches(), 0U);
    npm_span_fail(npm_span_begin("query", root), "timeout");
    EXPECT_EQ(mini_errors_of_batches(), 1U);
    npm_span_end(root);
  }).join();
}

TEST(Mini, KeepsSpansOfTheParentOutOfAChild) {
  const Raised raised;
  const npm_span span = npm_span_begin("work", npm_none());
  const std::uint64_t before = entries();
  const pid_t child = fork();
  if (child == 0) {
    npm_span_set_int(span, "late", 1);
    npm_span_end(span);
    if (entries() != before) _exit(2);
    const npm_span own = npm_span_begin("own", span);
    const bool is_orphan = (static_cast<const nopspan_open*>(own.state)->flags & NOPSPAN_FLAG_ORPHAN) != 0;
    npm_span_end(own);
    const nopspan_thread& thread = thread_of(mini());
    _exit(is_orphan && thread.next == 1 && thread.thread_id == static_cast<unsigned>(getpid()) ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  npm_span_end(span);
  EXPECT_EQ(entries(), before + 1);
}

// What the parent's thread has recorded is the parent's to report.
TEST(Mini, KeepsEntriesOfTheParentWhenAThreadOfAChildEnds) {
  const Raised raised;
  static const nopspan_thread* header = nullptr;
  static std::uint64_t first = 0;
  int status = -1;
  std::thread([&] {
    npm_span_end(npm_span_begin("work", npm_none()));
    npm_span_end(npm_span_begin("work", npm_none()));
    header = &thread_of(mini());
    first = header->first;
    const pid_t child = fork();
    if (child == 0) {
      std::atexit([] { _exit(header->first == first ? 0 : 1); });
      pthread_exit(nullptr);
    }
    waitpid(child, &status, 0);
  }).join();
  EXPECT_EQ(status, 0);
}

TEST(Mini, MovesMembersWithPrefillToTheFront) {
  const Raised raised;
  npm_member members[5]{};
  for (int i = 0; i < 5; ++i) members[i].request = static_cast<std::uint64_t>(i);
  members[2].prefill_tokens = members[4].prefill_tokens = 7;
  npm_step_end(npm_step_begin(), nullptr, members, 5);
  EXPECT_EQ(members[0].request, 2U);
  EXPECT_EQ(members[1].request, 4U);
  npm_step_end(npm_step_begin(), nullptr, nullptr, 3);
  npm_step_end(npm_step_begin(), nullptr, members, 0);
}

TEST(Mini, MakesDifferentIds) {
  const Raised raised;
  for (int round = 0; round < 20; ++round) {
    std::set<std::uint64_t> ids;
    std::vector<npm_span> open;
    for (int i = 0; i < 500; ++i) {
      open.push_back(npm_span_begin("work", npm_none()));
      const auto& span = *static_cast<const nopspan_open*>(open.back().state);
      std::uint64_t trace_id[2];
      std::memcpy(trace_id, span.trace_id, sizeof(trace_id));
      EXPECT_TRUE(ids.insert(span.span_id).second && ids.insert(trace_id[0]).second && ids.insert(trace_id[1]).second);
    }
    for (const npm_span span : open) npm_span_end(span);
  }
}

class MiniCopies : public testing::Test {
 protected:
  void SetUp() override {
    if (kThreadSanitizer) GTEST_SKIP() << "the thread sanitizer does not know copies that are made by clone()";
  }

  // Ids and sequences of copies of this process.
  template <class Work>
  static Numbers from_traced_copies(const Work& work) {
    const pid_t id = gettid();  // which copies have too
    return from_copies(reinterpret_cast<void*>(mini().process_mark), [&](int, Numbers& to) {
      const Raised raised;
      work();
      for (int i = 0; i < 40; ++i) add_span(to);
      to.push_back(thread_of(mini(), id).sequence_id);
    });
  }
  static constexpr std::size_t kNumbers = 40 * 3 + 1;

 private:
  static void add_span(Numbers& to) {
    const npm_span span = npm_span_begin("copied", npm_none());
    const npm_context context = npm_span_context(span);
    std::uint64_t trace_id[2];
    std::memcpy(trace_id, context.trace_id, sizeof(trace_id));
    to.insert(to.end(), {trace_id[0], trace_id[1], context.span_id});
    npm_span_end(span);
  }
};

TEST_F(MiniCopies, OfAnIdleProcessHaveIdsOfTheirOwn) {
  in_thread([] {
    const Raised raised;
    npm_span_begin("open", npm_none());
    const auto wait = [] { usleep(20'000); };
    expect_no_equals(from_traced_copies(wait), kNumbers);
  });
}

TEST_F(MiniCopies, ThatAreReseededHaveIdsOfTheirOwnAtOnce) {
  const Raised raised;
  npm_span_end(npm_span_begin("traced before the copy", npm_none()));
  expect_no_equals(from_traced_copies([] { npm_reseed(); }), kNumbers);
}

TEST(Mini, FreesTheBufferOfAThreadThatEnds) {
  const Raised raised;
  unsigned long mark = 1;
  std::thread([&] {
    npm_span_end(npm_span_begin("first", npm_none()));
    const nopspan_thread& thread = thread_of(mini());
    mark = reinterpret_cast<std::uintptr_t>(&thread);
  }).join();
  const auto& thread = *reinterpret_cast<const nopspan_thread*>(mark);
  EXPECT_EQ(thread.mark, 0U);
  EXPECT_EQ(thread.first, thread.next);
}

TEST(Mini, RepairsKeys) {
  const Raised raised;
  const npm_span span = npm_span_begin("work", npm_none());
  npm_span_set_int(span, "a\xff\n", 1);
  npm_span_set_int(span, "a??", 2);
  npm_span_end(span);
  const npm_span event = npm_event_begin("event", npm_none());
  const npm_span child = npm_span_begin("child of an event", event);
  EXPECT_NE(static_cast<const nopspan_open*>(child.state)->root_id, 0U);
  npm_span_set_usage(event, 1, 2, 3, 4);
  npm_span_first_token(event);
  EXPECT_EQ(
      static_cast<const nopspan_open*>(event.state)->flags & (NOPSPAN_FLAG_HAS_USAGE | NOPSPAN_FLAG_HAS_FIRST_TOKEN),
      0U);
  npm_span_set_ints(child, "null", nullptr, 2);
  npm_span_set_texts(child, "null", nullptr, 2);
  npm_request_set_times(child, nullptr);
  npm_span_set_times(child, ~std::uint64_t{0} / 2, 1);
  npm_span_first_token(child);
  EXPECT_EQ(static_cast<const nopspan_open*>(child.state)->first_token_ns, 0U);
  EXPECT_EQ(traceparent_of(event), "");  // it is in no trace
  npm_span_end(child);
  npm_span_end(event);
}

TEST(Mini, CountsWhatDoesNotFit) {
  const Raised raised;
  std::vector<npm_span> open;
  while (true) {
    const npm_span span = npm_span_begin("work", npm_none());
    if (span.state == nullptr) break;
    open.push_back(span);
  }
  EXPECT_GT(open.size(), std::size_t{NPM_SPANS} - 8);  // tests before this one left some open
  EXPECT_EQ(counted(&nopspan::Stats::spans_over_limit), 1U);
  EXPECT_EQ(counted(&nopspan::Stats::spans_dropped), 1U);
  // It is remembered that none is free. So a state that is freed behind its back is not found, until it looks again.
  auto* freed = static_cast<unsigned*>(open.back().state);
  open.pop_back();
  *freed = 0;
  for (unsigned long lost = 1; lost <= NPM_SPANS / 16; ++lost) {
    EXPECT_EQ(npm_span_begin("work", npm_none()).state, nullptr);
    EXPECT_EQ(counted(&nopspan::Stats::spans_over_limit), 1 + lost);
  }
  open.push_back(npm_span_begin("work", npm_none()));
  EXPECT_EQ(open.back().state, freed);
  EXPECT_EQ(npm_span_begin("work", npm_none()).state, nullptr);
  npm_span_end(open.back());
  open.back() = npm_span_begin("work", npm_none());
  EXPECT_EQ(open.back().state, freed) << "a span that ends leaves room for the next one";
  EXPECT_EQ(npm_span_begin("work", npm_none()).state, nullptr);
  static char memory[512 * 1024];
  std::memset(memory, 0xaa, sizeof(memory));
  const std::size_t more = npm_add_memory(memory, sizeof(memory));
  EXPECT_GE(more, 64U);
  for (std::size_t i = 0; i < more; ++i) {
    open.push_back(npm_span_begin("more", npm_none()));
    EXPECT_NE(open.back().state, nullptr);
  }
  EXPECT_EQ(npm_add_memory(memory, 100), 0U);
  for (const npm_span span : open) npm_span_end(span);

  const npm_span span = npm_span_begin("work", npm_none());
  const std::uint64_t fields = counted(&nopspan::Stats::fields_dropped);
  npm_span_set_text(span, "long", std::string(NPM_ATTRIBUTE_BYTES, 'x').c_str());
  npm_span_set_text(span, std::string(128, 'k').c_str(), "value");
  npm_span_set_text(span, "", "value");
  npm_span_set_text(span, nullptr, "value");
  npm_span_set_text(span, "null", nullptr);
  for (int i = 0; i < 200; ++i) npm_span_set_int(span, ("key" + std::to_string(i)).c_str(), i);
  EXPECT_GT(counted(&nopspan::Stats::fields_dropped), fields + 4);
  EXPECT_NE(static_cast<const nopspan_open*>(span.state)->flags & NOPSPAN_FLAG_ATTRIBUTES_DROPPED, 0U);
  npm_span_fail(span, nullptr);
  npm_span_end(npm_span_begin(nullptr, npm_none()));
}

TEST(Mini, LosesNothingOfMoreThreadsThanItHasBuffers) {
  const std::uint64_t before = entries(), dropped = counted(&nopspan::Stats::spans_dropped);
  std::atomic<std::uint64_t> written{0};
  {
    const Raised raised;
    std::vector<std::thread> threads;
    for (int i = 0; i < 2 * NPM_THREADS; ++i) {
      threads.emplace_back([&] {
        std::uint64_t last = 0;
        for (int k = 0; k < 200; ++k) {
          const npm_span span = npm_span_begin("work", npm_none());
          npm_span_set_int(span, "k", k);
          if (span.state != nullptr) ++last;
          npm_span_end(span);
        }
        written += last;
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  // A buffer begins to count from 0 when another thread takes it, so this is a lower bound.
  EXPECT_EQ(written, 2U * NPM_THREADS * 200);
  EXPECT_EQ(counted(&nopspan::Stats::spans_dropped), dropped);
  EXPECT_GT(entries() + written, before);
}

TEST(Mini, SurvivesSignalHandlers) {
  static volatile std::sig_atomic_t handled;
  static npm_span current;
  handled = 0;
  current = npm_none();
  struct sigaction action {};
  action.sa_handler = [](int) {
    const npm_span span = npm_span_begin("signal", npm_none());
    npm_span_set_int(span, "number", 1);
    npm_span_end(span);
    npm_span_set_text(current, "from the handler", "value");
    handled = handled + 1;
  };
  sigaction(SIGALRM, &action, nullptr);
  const Raised raised;
  const itimerval often{{0, 200}, {0, 200}}, never{};
  setitimer(ITIMER_REAL, &often, nullptr);
  while (handled < 500) {
    current = npm_span_begin("work", npm_none());
    for (int i = 0; i < 20; ++i) npm_span_set_int(current, i % 2 == 0 ? "key" : "another key", i);
    npm_span_end(current);
  }
  setitimer(ITIMER_REAL, &never, nullptr);
}

}  // namespace
