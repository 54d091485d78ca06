// SPDX-License-Identifier: Apache-2.0
#include "failure.h"

#include <cxxabi.h>
#include <pthread.h>

#include <exception>
#include <stdexcept>
#include <utility>

namespace cases {
namespace {

// The exception that fail() threw last. Compared by identity, because "the same exception then goes on to the caller".
std::exception_ptr last_thrown;

std::string failure_text(const Json& failure) {
  return failure.contains("reason") ? required_string(failure, "a failure", "reason")
                                    : required_string(failure, "a failure", "message");
}

std::exception_ptr make_exception(const Json& failure) {
  const std::string text = failure_text(failure);
  if (failure["class"] == "throw") return std::make_exception_ptr(text);
  if (optional(failure, "type") == "ArgumentError") return std::make_exception_ptr(std::invalid_argument(text));
  return std::make_exception_ptr(std::runtime_error(text));
}

std::string demangled(const std::type_info& type) {
  int status = 0;
  char* name = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string text = status == 0 ? name : type.name();
  std::free(name);
  return text;
}

struct Call {
  const std::function<Json()>& work;
  Outcome outcome;
};

void run(Call& call) {
  Outcome& outcome = call.outcome;
  try {
    outcome.returned = call.work();
    return;
  } catch (const std::exception& error) {
    outcome.failure_class = "error";
    outcome.type = reference_type(demangled(typeid(error)));
    outcome.message = error.what();
    outcome.same_exception = std::current_exception() == last_thrown;
  } catch (const std::string& thrown) {
    outcome.failure_class = "throw";
    outcome.message = thrown;
    outcome.same_exception = std::current_exception() == last_thrown;
  }
  outcome.raised = true;
}

void* run_thread(void* argument) {
  auto& call = *static_cast<Call*>(argument);
  // The outcome if run() does not return.
  call.outcome.raised = true;
  call.outcome.failure_class = "exit";
  Call inside{call.work, {}};
  run(inside);
  call.outcome = std::move(inside.outcome);
  return nullptr;
}

}  // namespace

void check_failure(const Json& failure) {
  only_keys(failure, "a failure", {"class", "reason", "type", "message"});
  const std::string failure_class = required_string(failure, "a failure", "class");
  if (failure_class != "error" && failure_class != "throw" && failure_class != "exit") {
    throw Inexpressible("unknown class of failure \"" + failure_class + "\"");
  }
  failure_text(failure);
  const Json type = optional(failure, "type");
  if (!type.is_null() && (failure_class != "error" || (type != "RuntimeError" && type != "ArgumentError"))) {
    throw Inexpressible("unknown type of failure " + type.dump());
  }
}

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

Outcome observe(const std::function<Json()>& work, bool may_end_thread) {
  last_thrown = nullptr;
  Call call{work, {}};
  if (may_end_thread) {
    pthread_t thread{};
    if (pthread_create(&thread, nullptr, run_thread, &call) != 0) throw std::runtime_error("no thread for a case");
    pthread_join(thread, nullptr);
  } else {
    run(call);
  }
  last_thrown = nullptr;
  return std::move(call.outcome);
}

Json as_raised(const Outcome& outcome, const Json& expected) {
  if (!outcome.raised) return "nothing was raised";
  const bool is_exit = outcome.failure_class == "exit";
  Json raised = Json::object();
  for (const auto& [key, value] : expected.items()) {
    if (key == "class") {
      raised[key] = outcome.failure_class;
    } else if (key == "type") {
      raised[key] = outcome.type;
    } else if (key == "reason" || key == "message") {
      raised[key] = is_exit ? value : Json(outcome.message);  // a thread's end carries no value
    } else if (key == "message_contains") {
      const bool contains = value.is_string() && outcome.message.find(value.get<std::string>()) != std::string::npos;
      raised[key] = contains ? value : Json(outcome.message);
    }
  }
  return raised;
}

}  // namespace cases
