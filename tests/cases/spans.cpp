// SPDX-License-Identifier: Apache-2.0
#include "spans.h"

#include <cxxabi.h>
#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <typeinfo>
#include <vector>

#include "values.h"

namespace cases {
namespace {

// The exception that fail() threw last. Compared by identity, because "the same exception then goes on to the caller".
std::exception_ptr last_thrown;

std::exception_ptr make_exception(const Json& failure) {
  const std::string text = failure.contains("reason") ? failure["reason"] : failure["message"];
  if (failure["class"] == "throw") return std::make_exception_ptr(text);
  if (optional(failure, "type") == "ArgumentError") return std::make_exception_ptr(std::invalid_argument(text));
  return std::make_exception_ptr(std::runtime_error(text));
}

std::string demangled(const std::type_info& type) {
  const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr),
                                                    std::free);
  return name != nullptr ? name.get() : type.name();
}

struct Work {
  const std::function<Json()>& work;
  Outcome outcome;
};

void run_here(Work& call) {
  Outcome& outcome = call.outcome;
  try {
    outcome.returned = call.work();
    return;
  } catch (const Inexpressible&) {
    throw;
  } catch (const std::exception& error) {
    outcome.failure_class = "error";
    outcome.is_other = last_thrown != nullptr && std::current_exception() != last_thrown;
    outcome.type = reference_type(demangled(typeid(error)));
    outcome.message = error.what();
  } catch (const std::string& thrown) {
    outcome.failure_class = "throw";
    outcome.is_other = last_thrown != nullptr && std::current_exception() != last_thrown;
    outcome.message = thrown;
  }
  outcome.raised = true;
}

void* run_on_thread(void* argument) {
  auto& call = *static_cast<Work*>(argument);
  // The outcome if run_here() does not return.
  call.outcome.raised = true;
  call.outcome.failure_class = "exit";
  Work inside{call.work, {}};
  run_here(inside);
  call.outcome = std::move(inside.outcome);
  return nullptr;
}

// "nested" is one span, or a list of consecutive spans.
std::vector<Json> nested_spans(const Json& body) {
  const Json nested = optional(body, "nested");
  if (nested.is_null()) return {};
  if (nested.is_array()) return {nested.begin(), nested.end()};
  return {nested};
}

bool ends_thread(const Json& body) {
  if (body.contains("fail") && body["fail"]["class"] == "exit") return true;
  const std::vector<Json> nested = nested_spans(body);
  return std::any_of(nested.begin(), nested.end(), [](const Json& span) { return ends_thread(span["body"]); });
}

// `outcome` in the notation of `expected` ("raises" of a case).
Json as_raised(const Outcome& outcome, const Json& expected) {
  if (!outcome.raised) return "nothing was raised";
  Json raised = Json::object();
  for (const auto& [key, value] : expected.items()) {
    if (key == "class") {
      raised[key] = outcome.failure_class;
    } else if (key == "type") {
      raised[key] = outcome.type;
    } else if (key == "message_contains") {
      const bool contains = value.is_string() && outcome.message.find(value.get<std::string>()) != std::string::npos;
      raised[key] = contains ? value : Json(outcome.message);
    } else {  // reason or message, which a thread's end does not carry
      raised[key] = outcome.failure_class == "exit" ? value : Json(outcome.message);
    }
  }
  return raised;
}

}  // namespace

void fail(const Json& failure) {
  if (failure["class"] == "exit") pthread_exit(nullptr);
  last_thrown = make_exception(failure);
  std::rethrow_exception(last_thrown);
}

std::string reference_type(const std::string& cpp_type) {
  if (cpp_type == "std::runtime_error") return "RuntimeError";
  if (cpp_type == "std::invalid_argument") return "ArgumentError";
  return cpp_type;
}

Json SpanBody::run() const {
  Json returned;
  for (const Json& nested : nested_spans(body_)) returned = run_nested_(nested);
  if (body_.contains("fail")) fail(body_["fail"]);
  return body_.contains("return") ? body_["return"] : returned;
}

void SpanBody::add_to_stop(nopspan::Fields& fields) const {
  set_metadata(fields, optional(body_, body_.contains("extras") ? "extras" : "stop_metadata"));
  set_measurements(fields, optional(body_, "extra_measurements"));
}

void check_span(const Json& span, const std::string& shape) {
  check(span, shape);
  for (const Json& nested : nested_spans(span["body"])) check_span(nested, shape);
}

Outcome observe(const std::function<Json()>& work, const Json& body) {
  last_thrown = nullptr;
  Work call{work, {}};
  if (ends_thread(body)) {
    pthread_t thread{};
    if (pthread_create(&thread, nullptr, run_on_thread, &call) != 0) throw std::runtime_error("no thread for a case");
    pthread_join(thread, nullptr);
  } else {
    run_here(call);
  }
  last_thrown = nullptr;
  return std::move(call.outcome);
}

void compare_outcome(const Json& expect, const Outcome& outcome, Comparison& comparison) {
  const Json raises = optional(expect, "raises");
  if (raises == "badarg") {
    comparison.add("result", as_returned(nopspan::Errc::invalid_argument),
                   outcome.raised ? Json("an exception") : outcome.returned);
  } else if (!raises.is_null()) {
    check(raises, "raised");
    comparison.add("raises", raises, as_raised(outcome, raises));
    comparison.add("raises another exception than the body", false, outcome.is_other);
  } else if (outcome.raised) {
    comparison.add("raises", "no exception", outcome.failure_class + " " + outcome.type + ": " + outcome.message);
  } else if (expect.contains("returns")) {
    comparison.add("returns", expect["returns"], outcome.returned);
  } else if (outcome.returned == as_returned(nopspan::Errc::invalid_argument)) {
    comparison.add("returns", "no error", outcome.returned);
  }
}

}  // namespace cases
