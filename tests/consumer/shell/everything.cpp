// SPDX-License-Identifier: Apache-2.0
// Uses everything of nopspan where its headers are a shell, and checks what docs/compatibility.md promises of one. It
// is compiled for several platforms and linked to nothing (shell_test.py).
#include <nopspan/agent.h>
#include <nopspan/c.h>
#include <nopspan/context.h>
#include <nopspan/coroutine.h>
#include <nopspan/engine.h>
#include <nopspan/event.h>
#include <nopspan/execute.h>
#include <nopspan/fiber.h>
#include <nopspan/fields.h>
#include <nopspan/genai.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/log.h>
#include <nopspan/mcp.h>
#include <nopspan/probes.h>
#include <nopspan/propagation.h>
#include <nopspan/recording.h>
#include <nopspan/registry.h>
#include <nopspan/semconv.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>
#include <nopspan/stream.h>
#include <nopspan/testing.h>
#include <nopspan/types.h>
#include <nopspan/version.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace agent = nopspan::agent;
namespace engine = nopspan::engine;
namespace genai = nopspan::genai;
namespace llm = nopspan::llm;
namespace mcp = nopspan::mcp;
using nopspan::AsyncSpan;
using nopspan::Context;
using nopspan::Errc;
using nopspan::Fields;
using nopspan::Span;
using nopspan::SpanKind;
using nopspan::Value;

namespace {

int failures = 0;
void expect(bool holds, const char* what, int line) {
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "everything.cpp:%d: %s\n", line, what);
}
#define EXPECT(condition) expect(condition, #condition, __LINE__)

// A callable that sets fields. It must not run.
const auto unused = [](auto& /*fields*/) { EXPECT(!"fields are set"); };

enum class Tier : std::uint8_t { small };
const char* to_string(Tier /*tier*/) { return "small"; }

// Every type of value, and every setter.
template <class Setters>
void set_all(Setters& to) {
  const int ports[] = {1, 2};
  to.set("null", nullptr).set("bool", true).set("int", 1).set("real", 1.5).set("char", 'c').set("text", "text");
  to.set("string", std::string(100, 'x')).set("tier", Tier::small).set("wait", std::chrono::hours(1));
  to.set("optional", std::optional<int>()).set("list", std::vector<std::string>{"a"}).set("pairs", {1, 2});
  to.set("texts", {"a", "b"}).set("ports", ports, 2).set("bytes", "abc", 3);
  to.set("map", std::map<std::string, double>{{"a", 1}}).set("value", Value::map({{"a", 1}}));
  to.content("prompt", "text")
      .content("prompts", {"a", "b"})
      .measure("rows", 3)
      .measure("wait", std::chrono::seconds(1));
  to.measure("ratio", 0.5).measure("size", std::size_t{3});
  to.engine("e").model("m").tenant("t").label("queue", "high").link(Context());
  to.input_tokens(1).output_tokens(2).cached_tokens(3).reasoning_tokens(4);
}

void types() {
  using namespace std::chrono;
  EXPECT(nopspan::Name("literal").view() == "literal" && nopspan::Name(std::string("made")).size() == 4);
  EXPECT(nopspan::Name::intern("kept").view() == "unnamed");
  EXPECT(nopspan::FixedString<3>("abcd") == "abc");
  const std::uint64_t before = nopspan::now_ns();
  const nopspan::Time now = steady_clock::now();
  EXPECT(before != 0 && before <= now.ns() && now.ns() <= nopspan::now_ns());
  EXPECT(nopspan::Duration(hours(24 * 365)).count() == 31'536'000'000'000'000);
  EXPECT(nopspan::Duration(duration<std::int64_t, std::ratio<1, 3>>(-3'000'000'001)).count() ==
         -1'000'000'000'333'333'333);
  EXPECT(nopspan::Duration(hours(1'000'000'000)).count() == INT64_MAX);
  EXPECT(nopspan::Duration(hours(-1'000'000'000)).count() == INT64_MIN);
  EXPECT(nopspan::Duration(duration<double>(1.5)).count() == 1'500'000'000);
  EXPECT(nopspan::Milliseconds(seconds(2)).count() == 2000 && nopspan::Milliseconds(microseconds(2999)).count() == 2);
  EXPECT(std::string(nopspan::describe(Errc::ok)) == "ok" && nopspan::describe(Errc::not_found) != nullptr);
  EXPECT(std::string(nopspan::to_string(nopspan::LogLevel::warning)) == "warning");
}

void values() {
  Value value = Value::map({{"a", 1}, {"b", Value::list({"x", true, nullptr})}});
  EXPECT(value.find("a")->as_int() == 1 && value.find("c") == nullptr);
  EXPECT(value.find("b")->as_list().at(0).as_string() == "x");
  Value copy = value;
  EXPECT(copy == value && copy == Value::map({{"b", *value.find("b")}, {"a", 1}}));
  copy.set("a", 1.0).set("c", Value::map());
  EXPECT(copy != value && copy.find("c") != nullptr && Value(1).set("k", 2).find("k")->as_int() == 2);
  EXPECT(std::move(copy).find("a") == Value(1.0) && Value(1).find("a") == std::nullopt);
  EXPECT(Value(1) != Value(1.0) && Value(std::vector<int>{1, 2}) == Value::list({1, 2}));
  EXPECT(value.to_string().empty());
}

void spans() {
  EXPECT(nopspan::span("closure", [] { return 42; }) == 42);
  EXPECT(nopspan::span("closure", SpanKind::client, unused, [](Span& span) { return span ? 1 : 2; }) == 2);
  int target = 0;
  EXPECT(&nopspan::span("reference", [&]() -> int& { return target; }) == &target);
  nopspan::span("nothing", unused, [&] { ++target; });
  nopspan::span("parent", Context::make(), [&] { ++target; });
  EXPECT(target == 2);
  EXPECT(nopspan::span("move", [] { return std::make_unique<int>(7); }) != nullptr);
  EXPECT(nopspan::span("result", [] { return nopspan::result(5, [](int, Fields&) { EXPECT(!"fields are set"); }); }) ==
         5);
  EXPECT(&nopspan::span("result", [&] { return nopspan::result_ref(target, unused); }) == &target);
  nopspan::span("result", [] { return nopspan::result(unused); });
  try {
    nopspan::span("throws", [] { throw std::runtime_error("kept"); });
    EXPECT(!"an exception reaches the caller");
  } catch (const std::runtime_error& error) {
    EXPECT(std::string(error.what()) == "kept");
  }

  Span span{"scope", {SpanKind::server, nopspan::now_ns()}, unused};
  EXPECT(!span);
  set_all(span);
  span.with(unused).set("after", 1);
  span.event("event", unused);
  span.event("event");
  span.first_token(3);
  span.end_at(std::chrono::steady_clock::now());
  span.fail("timeout", "message");
  span.cancel();
  span.caught();
  EXPECT(span.request_id().empty() && span.context().empty());
}

void async_spans() {
  AsyncSpan span{"async", Context::current(), SpanKind::client, unused};
  EXPECT(!span);
  set_all(span);
  AsyncSpan moved = std::move(span);
  moved.with(unused).set("after", 1);
  EXPECT(moved.context().empty() && moved.context_or(Context()).empty());
  moved.fail("timeout");
  moved.end();
  moved = AsyncSpan{"other", unused};
  moved.cancel("why");
  moved.caught();
  EXPECT(nopspan::async_span("async", Context(), unused, [](AsyncSpan& inner) { return inner ? 1 : 2; }) == 2);
  nopspan::RequestSpan request{"request", Context(), SpanKind::server};
  EXPECT(!request.span && request.context.empty());
  nopspan::complete("before", request.context, nopspan::now_ns() - 5, std::chrono::nanoseconds(5), unused);
  nopspan::complete(llm::chat, request.span, 1, 2);
  nopspan::end_open_spans();
}

void contexts() {
  const char* const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  for (const Context& context : {Context(), Context::make(), Context::current(), Context::with_request_id("order-7"),
                                 Context::from_traceparent(traceparent, "a=b"), Context().with_label("tenant", "t")}) {
    EXPECT(context.empty() && !context && context.span_id() == 0 && context.root_id() == 0 && !context.sampled());
    EXPECT(context.request_id().empty() && context.trace_id().empty() && context.label("tenant").empty());
    EXPECT(context.traceparent().empty() && context.tracestate().empty());
    const nopspan::ContextScope scope{context};
    EXPECT(Context::current().empty());
  }
  EXPECT(nopspan::request_id().empty() && nopspan::make_request_id().empty());

  const auto wrapped = nopspan::wrap([](int n) { return n + 1; });
  EXPECT(wrapped(1) == 2);
  auto owner = nopspan::wrap(Context(), [made = std::make_unique<int>(3)] { return *made; });
  EXPECT(owner() == 3 && std::move(owner)() == 3);
  const std::function<void(int&)> job = nopspan::wrap([](int& n) { n = 9; });
  int number = 0;
  job(number);
  EXPECT(number == 9);

  std::map<std::string, std::string> headers{{"traceparent", traceparent}, {"baggage", "tenant=t"}};
  EXPECT(nopspan::extract(headers).empty());
  nopspan::inject(headers);
  nopspan::inject(AsyncSpan(), headers);
  nopspan::inject(Context::make(), [](std::string_view, std::string_view) { EXPECT(!"a header is written"); });
  nopspan::inject_environment(Context::make(), headers);
  EXPECT(headers.size() == 2 && headers["traceparent"] == traceparent && headers["baggage"] == "tenant=t");
  EXPECT(nopspan::extract([](const char*) -> const char* {
           EXPECT(!"a header is read");
           return nullptr;
         }).empty());
  EXPECT(nopspan::extract_environment().empty() && nopspan::declare_label("queue"));

  nopspan::SuspendedScopes suspended = nopspan::suspend_scopes();
  EXPECT(suspended.empty());
  nopspan::resume_scopes(std::move(suspended));
  const nopspan::FiberSwitch here;
}

void handlers() {
  EXPECT(nopspan::attach(
             "id", "db.*", [](const nopspan::Event&) { EXPECT(!"a handler runs"); }, 7) == Errc::ok);
  EXPECT(nopspan::attach_many("all", llm::event_names(), [](const nopspan::Event&) {}) == Errc::ok);
  nopspan::span("db.query", [] {});
  nopspan::execute("db.hit", unused);
  EXPECT(nopspan::list_handlers().empty());
  EXPECT(nopspan::detach("id") == Errc::ok && nopspan::detach("never attached") == Errc::ok);
  EXPECT(llm::attach_default_logger() == Errc::ok && llm::detach_default_logger() == Errc::ok);
  EXPECT(agent::attach_default_logger() == Errc::ok && agent::detach_default_logger() == Errc::ok);
  nopspan::set_log_sink([](nopspan::LogLevel, std::string_view) { EXPECT(!"a line is logged"); });

  const nopspan::Event event;
  EXPECT(event.name().empty() && event.request_id().empty() && event.span_id() == 0 && event.parent_id() == 0);
  EXPECT(event.context().empty() && event.status() == nopspan::Status::ok && event.flags() == 0 && !event.is_orphan());
  EXPECT(event.duration_ns() == 0 && event.monotonic_time_ns() == 0 && event.system_time_ns() == 0);
  EXPECT(event.measurements().empty() && event.metadata().copy().is_null() && event.attributes().size() == 0);
  event.metadata().for_each([](std::string_view, nopspan::ValueView) { EXPECT(!"there is metadata"); });
  const nopspan::ValueView absent = event.metadata("key").find("inner");
  EXPECT(!absent.exists() && absent.is_null() && !absent.is_content() && absent.copy().is_null());
  EXPECT(absent.as_bool(true) && absent.as_int(1) == 1 && absent.as_double(2) == 2 && absent.as_string("s") == "s");
  EXPECT(event.config().is_null() && event.link_count() == 0 && event.links() == nullptr);
  EXPECT(event.step() == nullptr && event.members() == nullptr && event.member_count() == 0);
  const nopspan::OwnedEvent owned{event};
  nopspan::OwnedEvent copy{owned};
  copy = owned;
  EXPECT(copy->name().empty() && (*copy).request_id().empty());
  EXPECT(genai::span_name(*owned).empty() && genai::exception_event(*owned).is_null() &&
         genai::metrics(*owned).empty());

  nopspan::testing::Recorder recorder{"db.query.stop"};
  EXPECT(recorder.error() == Errc::ok && nopspan::testing::Recorder::span_events({"a"}).empty());
  nopspan::span("db.query", [] {});
  recorder.clear();
  EXPECT(recorder.events().empty() && recorder.events("db.query.stop").empty() && recorder.names().empty());
  EXPECT(recorder.size() == 0);
}

void settings() {
  EXPECT(nopspan::stats().spans_dropped == 0 && nopspan::stats().warnings == 0);
  nopspan::capture_content(true);
  nopspan::capture_content(nopspan::ContentMode::spans);
  nopspan::capture_stacktraces(true);
  nopspan::keep_open_spans(true);
  EXPECT(nopspan::prepare(4, nopspan::Growth::none));
  nopspan::reseed();
  const Span span{"not kept"};
  EXPECT(!span);

  nopspan::recording::Writer writer;
  const std::string error = writer.open("everything.rec", {});
  EXPECT(!error.empty() && !writer.is_open() && writer.close() && writer.statistics().emitted == 0);
  nopspan::recording::Writer other = std::move(writer);
  EXPECT(!other.is_open());
}

void events() {
  nopspan::execute("event");
  nopspan::execute(AsyncSpan(), "event", unused);
  nopspan::gauge("waiting", 2, unused);
  nopspan::gauge("waiting", 2);
  nopspan::counter("aborted", 17, [](nopspan::GaugeFields& g) { g.engine("e").maximum(8).label("reason", "slots"); });
  nopspan::counter("aborted", 17);
}

void llm_catalogue() {
  EXPECT(nopspan::span(llm::chat, unused, [] { return 1; }) == 1);
  Span chat{llm::chat, [](auto& m) { m.model("m").provider("openai"); }};
  chat.with<llm::ChatFields>([](auto& m) { m.output_tokens(3); });
  EXPECT(llm::has_span("chat") && llm::has_span("stream") && !llm::has_span("cat"));
  EXPECT(llm::span("tool", unused, [] { return 2; }) == 2 && llm::span("step", [] { return 3; }) == 3);
  try {
    llm::span("cat", [] { EXPECT(!"work without a name runs"); });
    EXPECT(!"an unknown name throws");
  } catch (const std::invalid_argument& error) {
    EXPECT(std::string_view(error.what()) ==
           "unknown span name \"cat\"; valid: chat, generate, image, step, stream, tool");
  }
  llm::retry([](auto& r) { r.attempt(1).delay_ms(std::chrono::seconds(1)).reason(llm::retry_reason::timeout); });
  llm::retry(chat, unused);
  llm::execute("cache.hit", unused);
  llm::execute(chat, "cache.hit");
  EXPECT(llm::event_names().empty() && llm::event_prefix() == "llm");

  nopspan::StreamMeter meter{AsyncSpan{llm::stream, Context()}};
  meter.opened();
  meter.token(2);
  meter.token(1, nopspan::now_ns());
  EXPECT(!meter && !meter.span());
  nopspan::StreamMeter taken = std::move(meter);
  taken.fail("timeout");
  taken.end();

  int left = 3;
  auto pull = llm::open_pull(unused, [&](AsyncSpan& span) {
    return
        [&left, recorded = static_cast<bool>(span)] { return recorded || left == 0 ? std::optional<int>() : left--; };
  });
  int sum = 0;
  while (const auto item = pull.next()) sum += *item;
  EXPECT(sum == 6);
  for (const int item : llm::stream_range(std::vector<int>{4, 5})) sum += item;
  for (const int item : llm::open_range(unused, [] { return std::vector<int>{6}; })) sum += item;
  EXPECT(sum == 21);
  const auto never = [](int) -> int { throw std::runtime_error("tokens are counted"); };
  auto push = llm::push_stream(
      unused, [&](int item) { return sum += item; }, never);
  EXPECT(push(9) == 30);
  push.end();
}

void agent_catalogue() {
  EXPECT(agent::tool_span([](auto& m) { m.tool_name("search"); }, [] { return 3; }) == 3);
  EXPECT(agent::tool_span(Value::map({{"tool_name", "search"}}), [](Span& span) { return span ? 1 : 2; }) == 2);
  Span span{agent::compaction, [](auto& m) { m.strategy("oldest").config(Value::map()).message_count(3); }};
  agent::operators::state_change([](auto& e) { e.operator_name("ets").from("a").to("b").reason("full"); });
  agent::operators::wait(span, [](auto& e) { e.ms(std::chrono::seconds(1)); });
  agent::operators::done();
  agent::coordinator::invoke_operators([](auto& e) { e.running(true).skills({"a", "b"}); });
  EXPECT(agent::catalogue().empty() && agent::event_names().empty());
  EXPECT(agent::to_string(agent::FieldType::map) != nullptr && agent::generate_trace_id().empty());
  EXPECT(agent::emit("agent.llm.start", Value::map(), Value::map()) == Errc::ok);
  EXPECT(agent::emit_tool_start(Value::map()) == Errc::ok && agent::emit_tool_stop(Value::map(), 3, 5) == Errc::ok);
  EXPECT(agent::emit_tool_exception(Value::map(), "error", 5) == Errc::ok);
  EXPECT(agent::emit_tool_exception(Value::map(), "error", 5, "throw", Value::list()) == Errc::ok);
}

void engine_catalogue() {
  AsyncSpan request{engine::request, Context(), [](auto& m) {
                      m.max_tokens(9).arrival_ns(std::chrono::steady_clock::now()).admission_ns(5, "grammar");
                      m.cached_by_tier(1, 2);
                    }};
  engine::Member member = engine::Member::of(request, 42);
  EXPECT(member.request == 42 && member.flags == engine::Member::kOwnKey);
  EXPECT(engine::Member::of_trace(Context::make(), 43).request == 43);
  member.decode_tokens = 1;
  const std::vector<engine::Member> members(3, member);
  Span step{engine::step, [&](engine::StepFields& s) {
              s.members(members.data(), members.size()).member(member).kind(engine::StepKind::mixed).instance(1);
              s.number(2).budget_tokens(512).host_ns(std::chrono::milliseconds(1)).kv_used(5).link(request);
            }};
  step.with<engine::StepFields>(unused);
  nopspan::complete(engine::device, step.context(), 1, 2, [](auto& m) { m.device("gpu0"); });
  engine::preempted(request.context(), [](auto& e) { e.reason("no_blocks").mode("swap"); });
  engine::prefix_cache([](auto& e) { e.local(5, 3); });
  engine::stats([](auto& m) {
    m.running(3).waiting("capacity", 1).kv_cache_used(5).counter("aborted", 3).gauge("slots{device=gpu0}", 2);
  });
  EXPECT(engine::event_names().empty());
}

// A JSON library, as far as mcp.h needs one.
struct Json {
  using object_t = std::map<std::string, Json>;
  using string_t = std::string;
  Json& operator[](const std::string& key) { return entries[key]; }
  Json& operator=(const string_t& value) { return text = value, *this; }
  [[nodiscard]] bool is_object() const { return !entries.empty(); }
  void erase(const std::string& key) { entries.erase(key); }
  [[nodiscard]] const Json* find(const std::string& key) const {
    const auto found = entries.find(key);
    return found == entries.end() ? nullptr : &found->second;
  }
  [[nodiscard]] const Json* end() const { return nullptr; }
  template <class P>
  [[nodiscard]] P get_ptr() const {
    return &text;
  }

  object_t entries;
  string_t text;
};

void mcp_catalogue() {
  Span span{mcp::client, SpanKind::client, [](auto& m) {
              m.method("tools/call").tool_name("weather").rpc_id(7).error_code(-32600).server("host", 80);
            }};
  span.fail(mcp::tool_error);
  Json params;
  mcp::inject(span, params);
  EXPECT(params.entries.empty());
  params["_meta"]["traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  EXPECT(mcp::extract(params).empty());
  EXPECT(mcp::event_names().empty());
}

void genai_conventions() {
  const Value metadata = Value::map({{"model", "gpt-5"}});
  for (const auto function : {genai::start, genai::terminal, genai::exception, genai::error_status,
                              genai::provider_name, genai::request_model, genai::streaming_ttfc_seconds,
                              genai::cost_breakdown, genai::output_type, genai::span_status}) {
    EXPECT(function(metadata).is_null());
  }
  EXPECT(genai::exception_event(metadata).is_null() && genai::error_type(metadata).empty());
  EXPECT(genai::operation_name(metadata).empty() && genai::span_name("chat", "gpt-5").empty());
  EXPECT(genai::present(metadata) == nullptr && genai::span_event_names().empty());
  EXPECT(genai::metrics_stop(metadata, 5).empty() && genai::metrics_exception(metadata, 5).empty());
  genai::PriceTable prices;
  std::string error;
  EXPECT(!prices.parse("{}", error) && !error.empty() && prices.empty());
  EXPECT(prices.with_costs(metadata, "gpt-5") == metadata);
  genai::set_prices(prices);
  genai::prompt_sent(unused);
  genai::retry(1, [](auto& r) { r.reason("timeout"); });
  genai::tool_call(AsyncSpan(), "search", unused);
  genai::stream_first_token([](auto& e) { e.tokens_so_far(1); });
  genai::response_received();
  Span retrieval{genai::retrieval, [](auto& m) { m.data_source_id("docs").top_k(3); }};
  EXPECT(nopspan::semconv::renamed(nopspan::semconv::error_type, nopspan::Semconv::next) == "error.type");
}

#if defined(__cpp_impl_coroutine)
struct Task {
  struct promise_type : nopspan::CoroutinePromise {
    Task get_return_object() { return Task{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    auto final_suspend() noexcept {
      struct Awaiter {
        bool await_ready() noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> done) noexcept {
          return done.promise().next ? done.promise().next : std::noop_coroutine();
        }
        void await_resume() noexcept {}
      };
      return Awaiter{};
    }
    void return_value(int number) { value = number; }
    void unhandled_exception() { throw; }

    int value = 0;
    std::coroutine_handle<> next;
  };
  explicit Task(std::coroutine_handle<promise_type> begun) : handle(begun) {}
  Task(Task&& other) noexcept : handle(std::exchange(other.handle, {})) {}
  ~Task() {
    if (handle) handle.destroy();
  }
  bool await_ready() { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) {
    handle.promise().next = caller;
    return handle;
  }
  int await_resume() { return handle.promise().value; }

  std::coroutine_handle<promise_type> handle;
};

Task inner() { co_return 5; }
Task outer() {
  const auto scope = co_await nopspan::context_scope(Context::make());
  co_await std::suspend_always{};
  auto work = [](AsyncSpan& span) {
    EXPECT(!span);
    return inner();
  };
  const int awaited = co_await nopspan::co_span(llm::chat, unused, work);
  const int traced = co_await nopspan::traced("traced", Context(), work);
  co_return awaited + traced;
}

void coroutines() {
  const Task task = outer();
  task.handle.resume();
  EXPECT(!task.handle.done());
  task.handle.resume();
  EXPECT(task.handle.done() && task.handle.promise().value == 10);
}
#else
void coroutines() {}
#endif

void coroutine_context() {
  nopspan::CoroutineContext owner;
  const nopspan::CoroutineScope scope{owner, Context::make()};
  EXPECT(owner.exchange(Context()).empty());
  owner.enter();
  EXPECT(!owner.entered());
  owner.leave();
}

void c_api() {
  const nopspan_handle request = nopspan_request_begin("request");
  EXPECT(!nopspan_is_recorded(request));
  EXPECT(!nopspan_enabled());
  nopspan_span_set_int(request, "rows", 1);
  nopspan_context context = nopspan_context_make();
  EXPECT(nopspan_context_is_empty(&context));
  context = nopspan_span_context_or(request, &context);
  const nopspan_scope scope = nopspan_scope_enter(&context);
  char text[NOPSPAN_ROOM_TRACEPARENT] = "x";
  EXPECT(nopspan_context_traceparent(&context, text, sizeof(text)) == 0 && text[0] == '\0');
  nopspan_scope_leave(scope);
  EXPECT(nopspan_member_of(request, 7).request == 7);
  nopspan_gauge("engine", "running", 1, 0);
  nopspan_call_set_text(request, "key", 3, "value", 5, NOPSPAN_METADATA);
  struct nopspan_stats stats;
  nopspan_stats_read(&stats, sizeof(stats));
  EXPECT(stats.spans_dropped == 0);
  EXPECT(nopspan_prepare(1, false));
  nopspan_reseed();
  nopspan_span_end(request);
}

}  // namespace

static_assert(NOPSPAN_SHELL == 1 && NOPSPAN_VERSION_MAJOR >= 0);
static_assert(NOPSPAN_FLAG_ORPHAN == 1);

int main() {
  types();
  values();
  spans();
  async_spans();
  contexts();
  handlers();
  settings();
  events();
  llm_catalogue();
  agent_catalogue();
  engine_catalogue();
  mcp_catalogue();
  genai_conventions();
  coroutines();
  coroutine_context();
  c_api();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
