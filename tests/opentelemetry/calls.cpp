// SPDX-License-Identifier: Apache-2.0
// Calls of opentelemetry-cpp's API, compared with what handlers in the process receive, and with what an SDK receives.
// The SDK is part of this program, because Debian's has only one of the two ABIs of the API. test_opentelemetry.py runs
// this program, also compiled with -fno-rtti. It prints each check that fails.
#include <nopspan/opentelemetry.h>
#include <nopspan/probes.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>
#include <nopspan/testing.h>

#include <opentelemetry/baggage/baggage_context.h>
#include <opentelemetry/context/runtime_context.h>
#include <opentelemetry/trace/context.h>
#include <opentelemetry/trace/provider.h>
#include <opentelemetry/trace/scope.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace trace = opentelemetry::trace;
namespace common = opentelemetry::common;
namespace context = opentelemetry::context;
namespace nostd = opentelemetry::nostd;
using nopspan::testing::Recorder;

namespace {

int failures = 0;
bool has_memory = true;

void check(bool passed, const char* what, int line) {
  if (passed) return;
  ++failures;
  std::printf("line %d: %s\n", line, what);
}
#define CHECK(condition) check(condition, #condition, __LINE__)

nostd::shared_ptr<trace::Tracer> tracer() { return trace::Provider::GetTracerProvider()->GetTracer("calls"); }
std::string text(const nopspan::OwnedEvent& event, const char* key) {
  return std::string(event->metadata().find(key).as_string());
}

// As a library for logs does that prints the ids of the current span.
void handlers_may_use_the_span() {
  std::vector<std::string> seen;
  const nopspan::Errc attached = nopspan::attach("log", "*", [&](const nopspan::Event& event) {
    const auto current = trace::GetSpan(context::RuntimeContext::GetCurrent());
    current->SetAttribute("logged", true);
    seen.push_back(std::string(event.name()) + (current->GetContext().IsValid() ? " with" : " without"));
  });
  CHECK(attached == nopspan::Errc::ok);
  const auto span = tracer()->StartSpan("order");
  {
    const trace::Scope scope(span);
    span->AddEvent("paid", {{"items", 3}});
    span->End();
  }
  CHECK(nopspan::detach("log") == nopspan::Errc::ok);
  CHECK((seen == std::vector<std::string>{"order.start without", "paid with", "order.stop with"}));
}

#if OPENTELEMETRY_ABI_VERSION_NO >= 2
// A list of links that notes on the span what it has linked.
struct OwnLinks final : trace::SpanContextKeyValueIterable {
  bool ForEachKeyValue(
      nostd::function_ref<bool(trace::SpanContext, const common::KeyValueIterable&)> each) const noexcept override {
    span->SetAttribute("linked", true);
    return each(span->GetContext(), common::NoopKeyValueIterable());
  }
  [[nodiscard]] std::size_t size() const noexcept override { return 1; }
  nostd::shared_ptr<trace::Span> span;
};

void links_may_use_the_span() {
  const Recorder recorder{"linking.stop"};
  OwnLinks links;
  links.span = tracer()->StartSpan("linking");
  links.span->AddLinks(links);
  links.span->End();
  CHECK(recorder.events().at(0)->metadata().find("linked").as_bool());
}
#endif

void a_failed_span_keeps_its_error_type() {
  const Recorder recorder(Recorder::span_events({"given", "not given"}));
  auto span = tracer()->StartSpan("given", {{"error.type", "timeout"}});
  span->SetStatus(trace::StatusCode::kError);
  span->End();
  span = tracer()->StartSpan("not given");
  span->SetStatus(trace::StatusCode::kError);
  span->End();
  CHECK(text(recorder.events("given.stop").at(0), "error.type") == "timeout");
  CHECK(recorder.events("given.stop").at(0)->attributes().find("error.type").as_string() == "timeout");
  CHECK(text(recorder.events("not given.stop").at(0), "error.type") == "_OTHER");
}

void the_end_has_the_last_name_and_status() {
  const Recorder recorder{"first.start", "first.stop", "last.stop"};
  auto span = tracer()->StartSpan("first");
  span->UpdateName("last");
  span->SetStatus(trace::StatusCode::kError, "it failed");
  span->SetStatus(trace::StatusCode::kOk);
  span->End();
  span->End();
  span->UpdateName("after");
  CHECK((recorder.names() == std::vector<std::string>{"first.start", "last.stop"}));
  CHECK(recorder.events("last.stop").at(0)->status() == nopspan::Status::ok);
  CHECK(text(recorder.events("last.stop").at(0), "otel.status_code") == "OK");
}

// A handler receives it marked, and a tracer does not receive it.
void content_is_known_by_its_key() {
  const Recorder recorder{"chat m.stop", "llm.tool.stop", "exception"};
  const auto is_content = [](const nopspan::OwnedEvent& event, const char* key) {
    const nopspan::ValueView value = event->attributes().find(key);
    return value.exists() && value.is_content();
  };
  auto span = tracer()->StartSpan("chat m", {{"gen_ai.operation.name", "chat"}, {"gen_ai.input.messages", "secret"}});
  const nostd::string_view answers[] = {"secret"};
  span->SetAttribute("gen_ai.output.messages", nostd::span<const nostd::string_view>(answers));
  span->SetAttribute("gen_ai.prompt.0.content", "secret");
  span->AddEvent("exception",
                 {{"exception.type", "E"}, {"exception.message", "secret"}, {"exception.stacktrace", "secret"}});
  span->SetStatus(trace::StatusCode::kError, "secret");
  span->End();
  const auto chat = recorder.events("chat m.stop").at(0), exception = recorder.events("exception").at(0);
  for (const char* key :
       {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.prompt.0.content", "otel.status_description"}) {
    CHECK(is_content(chat, key));
  }
  CHECK(!is_content(chat, "gen_ai.operation.name"));
  CHECK(is_content(exception, "exception.message") && is_content(exception, "exception.stacktrace"));
  CHECK(!is_content(exception, "exception.type"));
  span = tracer()->StartSpan("chat m", {{"result", "secret"}, {"rows", 3}});
  span->UpdateName("llm.tool");
  span->SetAttribute("arguments", "secret");
  span->End();
  const auto tool = recorder.events("llm.tool.stop").at(0);
  CHECK(is_content(tool, "result") && is_content(tool, "arguments") && !is_content(tool, "rows"));
}

// A handler has just been attached, so a Span of nopspan's own API could be inside a span that was not recorded.
void a_span_without_a_parent_is_a_request() {
  const Recorder recorder{"order.stop", "own.stop"};
  tracer()->StartSpan("order")->End();
  { const nopspan::Span own{"own"}; }
  CHECK((recorder.events("order.stop").at(0)->flags() & NOPSPAN_FLAG_ORPHAN) == 0);
  CHECK((recorder.events("own.stop").at(0)->flags() & NOPSPAN_FLAG_ORPHAN) != 0);
}

void names_of_the_conventions_are_facts() {
  const Recorder recorder{"chat m.stop", "gen_ai.stream.first_token", "inner.stop"};
  auto span = tracer()->StartSpan("chat m", {{"gen_ai.operation.name", "chat"}, {"gen_ai.request.model", "m"}});
  {
    const trace::Scope scope(span);
    tracer()->StartSpan("inner")->End();
  }
  span->AddEvent("gen_ai.stream.first_token");
  span->SetAttribute("http.response.status_code", 503);
  span->End();
  const auto stop = recorder.events("chat m.stop").at(0);
  CHECK(stop->context().label("model") == "m");
  CHECK(recorder.events("inner.stop").at(0)->context().label("model") == "m");
  CHECK(stop->status() == nopspan::Status::error && stop->attributes().find("error.type").as_string() == "503");
  const auto first_token = recorder.events("gen_ai.stream.first_token").at(0);
  CHECK(first_token->measurements().find("time_to_first_token").exists());
  span = tracer()->StartSpan("chat m", {{"gen_ai.operation.name", "chat"}, {"error.type", "timeout"}});
  span->SetStatus(trace::StatusCode::kOk);
  span->End();
  CHECK(recorder.events("chat m.stop").at(1)->status() == nopspan::Status::ok);
}

// A SpanContext has ids only, and the span that it is of may be in this process.
void a_parent_may_be_given_by_its_ids() {
  const Recorder recorder{"chat m.stop", "inside.stop", "after.stop", "late.stop", "remote.stop"};
  trace::StartSpanOptions options;
  {
    const auto span = tracer()->StartSpan("chat m", {{"gen_ai.operation.name", "chat"}, {"gen_ai.request.model", "m"}});
    const trace::SpanContext context = span->GetContext();
    options.parent = trace::SpanContext(context.trace_id(), context.span_id(), context.trace_flags(), true);
    tracer()->StartSpan("remote", {}, options)->End();
    options.parent = context;
    tracer()->StartSpan("inside", {}, options)->End();
    span->End();
    tracer()->StartSpan("after", {}, options)->End();
  }
  tracer()->StartSpan("late", {}, options)->End();
  const std::uint64_t parent = recorder.events("chat m.stop").at(0)->span_id();
  for (const auto& [name, model] :
       {std::pair("inside.stop", "m"), {"after.stop", "m"}, {"late.stop", ""}, {"remote.stop", ""}}) {
    const auto stop = recorder.events(name).at(0);
    CHECK(stop->parent_id() == parent && stop->context().label("model") == model);
  }
}

void spans_of_both_apis() {
  const Recorder recorder{"outer.stop", "api.stop", "inner.stop"};
  {
    const nopspan::Span outer{"outer"};
    const trace::Scope scope(tracer()->StartSpan("api"));
    const nopspan::Span inner{"inner"};
  }
  const auto outer = recorder.events("outer.stop").at(0), api = recorder.events("api.stop").at(0),
             inner = recorder.events("inner.stop").at(0);
  CHECK(api->parent_id() == outer->span_id());
  CHECK(inner->parent_id() == outer->span_id());  // it does not see the API's current span
}

void baggage_becomes_labels() {
  const Recorder recorder{"request.stop", "step.stop"};
  auto current = context::RuntimeContext::GetCurrent();
  const auto baggage = opentelemetry::baggage::Baggage::GetDefault()->Set("tenant", "acme")->Set("other", "1");
  const auto token = context::RuntimeContext::Attach(opentelemetry::baggage::SetBaggage(current, baggage));
  {
    const trace::Scope scope(tracer()->StartSpan("request"));
    tracer()->StartSpan("step")->End();
  }
  for (const char* name : {"request.stop", "step.stop"})
    CHECK(recorder.events(name).at(0)->context().label("tenant") == "acme");
}

// An SDK whose spans have the ids 1, 2 and so on, and which records no second one.
struct Sdk {
  std::uint8_t spans = 0;
  std::vector<std::string> calls;
};
class SdkSpan final : public trace::Span {
 public:
  SdkSpan(Sdk& sdk, std::string name) : sdk_(sdk), name_(std::move(name)) {
    const std::uint8_t trace_id[16] = {9}, span_id[8] = {++sdk.spans};
    context_ =
        trace::SpanContext(trace::TraceId(trace_id), trace::SpanId(span_id), trace::TraceFlags(sdk.spans & 1U), false);
  }
  void SetAttribute(nostd::string_view key, const common::AttributeValue&) noexcept override {
    called("set " + std::string(key));
  }
  void AddEvent(nostd::string_view name) noexcept override { called("event " + std::string(name)); }
  void AddEvent(nostd::string_view name, common::SystemTimestamp) noexcept override { AddEvent(name); }
  void AddEvent(nostd::string_view name, common::SystemTimestamp, const common::KeyValueIterable&) noexcept override {
    AddEvent(name);
  }
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
  void AddLink(const trace::SpanContext&, const common::KeyValueIterable&) noexcept override { called("link"); }
  void AddLinks(const trace::SpanContextKeyValueIterable&) noexcept override { called("links"); }
#endif
  void SetStatus(trace::StatusCode, nostd::string_view) noexcept override { called("status"); }
  void UpdateName(nostd::string_view name) noexcept override { called("name " + std::string(name)); }
  void End(const trace::EndSpanOptions&) noexcept override { called("end"); }
  [[nodiscard]] trace::SpanContext GetContext() const noexcept override { return context_; }
  [[nodiscard]] bool IsRecording() const noexcept override { return context_.IsSampled(); }

 private:
  void called(const std::string& what) { sdk_.calls.push_back(name_ + ": " + what); }

  Sdk& sdk_;
  const std::string name_;
  trace::SpanContext context_ = trace::SpanContext::GetInvalid();
};
class SdkTracer final : public trace::Tracer {
 public:
  explicit SdkTracer(Sdk& sdk) : sdk_(sdk) {}
  nostd::shared_ptr<trace::Span> StartSpan(nostd::string_view name, const common::KeyValueIterable&,
                                           const trace::SpanContextKeyValueIterable&,
                                           const trace::StartSpanOptions&) noexcept override {
    return nostd::shared_ptr<trace::Span>(new SdkSpan(sdk_, std::string(name)));
  }
#if OPENTELEMETRY_ABI_VERSION_NO == 1
  void ForceFlushWithMicroseconds(std::uint64_t) noexcept override {}
  void CloseWithMicroseconds(std::uint64_t) noexcept override {}
#endif

 private:
  Sdk& sdk_;
};
class SdkProvider final : public trace::TracerProvider {
 public:
  explicit SdkProvider(Sdk& sdk) : sdk_(sdk) {}
  nostd::shared_ptr<trace::TracerProvider> inner;  // if it is set, this is no SDK, and passes calls on
  nostd::shared_ptr<trace::Tracer> GetTracer(nostd::string_view name, nostd::string_view, nostd::string_view
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
                                             ,
                                             const common::KeyValueIterable*
#endif
                                             ) noexcept override {
    if (inner != nullptr) return inner->GetTracer(name);
    return nostd::shared_ptr<trace::Tracer>(new SdkTracer(sdk_));
  }

 private:
  Sdk& sdk_;
};

void an_sdk_receives_each_call() {
  Sdk sdk;
  const auto early = tracer();
  const nostd::shared_ptr<trace::TracerProvider> nopspans = trace::Provider::GetTracerProvider();
  trace::Provider::SetTracerProvider(nostd::shared_ptr<trace::TracerProvider>(new SdkProvider(sdk)));
  CHECK(nopspan::opentelemetry::install());
  for (const auto& each : {early, tracer()}) {
    sdk = {};
    each->StartSpan("off")->End();  // without nopspan, it is the SDK's own
    const Recorder recorder{"on.stop"};
    const auto span = each->StartSpan("on");
    span->SetAttribute("a", 1);
    span->AddEvent("e", {{"b", 2}});
    span->SetStatus(trace::StatusCode::kOk);
    span->UpdateName("on");
    CHECK(span->GetContext().span_id().Id()[0] == 2 && !span->GetContext().IsSampled());
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
    span->AddLink(span->GetContext(), {});
    CHECK(sdk.calls.back() == "on: link");
    sdk.calls.pop_back();
#endif
    span->End();
    CHECK((sdk.calls ==
           std::vector<std::string>{"off: end", "on: set a", "on: event e", "on: status", "on: name on", "on: end"}));
    CHECK(recorder.size() == 1 && recorder.events().at(0)->span_id() == std::uint64_t{2} << 56U);
#if OPENTELEMETRY_ABI_VERSION_NO >= 2 && (OPENTELEMETRY_VERSION_MAJOR > 1 || OPENTELEMETRY_VERSION_MINOR >= 20)
    CHECK(each->Enabled());
#endif
  }
  trace::Provider::SetTracerProvider(nopspans);
}

void a_provider_around_nopspans_is_left_alone() {
  Sdk sdk;
  const nostd::shared_ptr<trace::TracerProvider> nopspans = trace::Provider::GetTracerProvider();
  auto* const around = new SdkProvider(sdk);
  around->inner = nopspans;
  trace::Provider::SetTracerProvider(nostd::shared_ptr<trace::TracerProvider>(around));
  CHECK(nopspan::opentelemetry::install());
  CHECK(trace::Provider::GetTracerProvider().get() == around);
  CHECK(!tracer()->StartSpan("nobody")->GetContext().IsValid());
  trace::Provider::SetTracerProvider(nopspans);
}

void nothing_aborts_without_memory() {
  const auto provider = trace::Provider::GetTracerProvider();
  const auto old = tracer();
  const std::uint8_t trace_id[16] = {1}, span_id[8] = {2};
  trace::StartSpanOptions options;
  options.parent = trace::SpanContext(trace::TraceId(trace_id), trace::SpanId(span_id), trace::TraceFlags(1), true);
  const auto use = [&] {
    has_memory = false;
    CHECK(nopspan::opentelemetry::wrap({}) == nullptr);
    CHECK(provider->GetTracer("new") != nullptr);
    old->StartSpan("old", options)->End();
    has_memory = true;
  };
  use();
  const Recorder recorder{"old.stop"};
  use();
  CHECK(recorder.size() == 0);
}

// The thread that watches for tracers cannot start.
void a_tracer_that_nobody_watches_is_enabled() {
#if OPENTELEMETRY_ABI_VERSION_NO >= 2 && (OPENTELEMETRY_VERSION_MAJOR > 1 || OPENTELEMETRY_VERSION_MINOR >= 20)
  const pid_t child = fork();
  if (child == 0) {
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_NPROC, &none) != 0 || setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    nopspan::opentelemetry::install();
    _exit(tracer()->Enabled() ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && (status == 0 || geteuid() != 0));
#endif
}

// A storage of the program, which has the context of a fiber, for example.
class OwnStorage final : public context::ThreadLocalContextStorage {
 public:
  context::Context GetCurrent() noexcept override { return current; }
  context::Context current;
};

// So that the calls that a process makes while nobody traces it name the span of its caller.
void a_span_that_is_off_passes_the_context_on() {
  const std::uint8_t trace_id[16] = {1}, span_id[8] = {2};
  const trace::SpanContext caller(trace::TraceId(trace_id), trace::SpanId(span_id), trace::TraceFlags(1), true);
  const nostd::shared_ptr<trace::Span> remote(new trace::DefaultSpan(caller));
  const auto is_caller = [&](trace::Tracer& from) { return from.StartSpan("off")->GetContext() == caller; };
  CHECK(!is_caller(*tracer()));
  {
    const trace::Scope request(remote);
    const trace::Scope one(tracer()->StartSpan("off")), two(tracer()->StartSpan("off"));
    CHECK(is_caller(*tracer()));
    const trace::Scope other(nostd::shared_ptr<trace::Span>(new trace::DefaultSpan(trace::SpanContext::GetInvalid())));
    CHECK(!is_caller(*tracer()));
  }
  CHECK(!is_caller(*tracer()));
  std::optional<Recorder> recorder(std::in_place, Recorder::span_events({"on"}));
  const trace::Scope on(tracer()->StartSpan("on"));
  recorder.reset();
  const trace::SpanContext of_on = trace::GetSpan(context::RuntimeContext::GetCurrent())->GetContext();
  CHECK(of_on.IsValid() && tracer()->StartSpan("off")->GetContext() == of_on);
  const auto replace_storage = [](context::RuntimeContextStorage* storage) {
    context::RuntimeContext::SetRuntimeContextStorage(nostd::shared_ptr<context::RuntimeContextStorage>(storage));
  };
  auto* const own = new OwnStorage;
  replace_storage(own);
  const auto in_own = nopspan::opentelemetry::wrap({})->GetTracer("calls");  // tracers keep the storage
  CHECK(!is_caller(*in_own));
  own->current = trace::SetSpan(own->current, remote);
  CHECK(is_caller(*in_own));
  replace_storage(new context::ThreadLocalContextStorage);
}

}  // namespace

__attribute__((noinline)) void* operator new(std::size_t size) {
  if (void* const made = has_memory ? std::malloc(size) : nullptr) return made;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* made) noexcept { std::free(made); }
__attribute__((noinline)) void operator delete(void* made, std::size_t) noexcept { std::free(made); }

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  alarm(60);  // a lock that is never released
  a_tracer_that_nobody_watches_is_enabled();
  CHECK(nopspan::opentelemetry::install());
  CHECK(nopspan::opentelemetry::install());
  CHECK(!tracer()->StartSpan("nobody")->GetContext().IsValid());  // the API's own provider is not taken for an SDK
  handlers_may_use_the_span();
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
  links_may_use_the_span();
#endif
  a_failed_span_keeps_its_error_type();
  the_end_has_the_last_name_and_status();
  a_span_without_a_parent_is_a_request();
  content_is_known_by_its_key();
  names_of_the_conventions_are_facts();
  a_parent_may_be_given_by_its_ids();
  spans_of_both_apis();
  baggage_becomes_labels();
  nothing_aborts_without_memory();
  a_provider_around_nopspans_is_left_alone();
  a_span_that_is_off_passes_the_context_on();
  an_sdk_receives_each_call();
  std::puts(failures == 0 ? "passed" : "failed");
  return failures == 0 ? 0 : 1;
}
