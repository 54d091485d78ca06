// SPDX-License-Identifier: Apache-2.0
// How spans end: by an exception, fail() or cancel().
#include "recorded.h"

#include <nopspan/probes.h>

#include <unwind.h>

#include <cstring>
#include <exception>
#include <optional>
#include <typeinfo>

void throw_without_rtti();  // in without_rtti.cpp

namespace {

// ---- Spans that an exception unwinds.

Value reason(Value type, Value message) {
  return Value::map({{"type", std::move(type)}, {"message", std::move(message)}});
}

class OfWork : public ::testing::Test {
 protected:
  const SpanRecorder recorder_{"work"};
};
using Exception = OfWork;
using Outcome = OfWork;

struct Overloaded : std::runtime_error {
  using runtime_error::runtime_error;
};
struct Silent : std::exception {
  const char* what() const noexcept override { return nullptr; }
};

template <class Thrown>
nopspan::OwnedEvent exception_of(const Thrown& thrown) {
  const SpanRecorder recorder("work");
  EXPECT_THROW(nopspan::span("work", [&] { throw thrown; }), Thrown);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.exception"));
  return recorder.exception();
}

TEST_F(Exception, OfAStandardClassIsAnError) {
  const auto event = exception_of(std::runtime_error("no route"));
  EXPECT_THAT(event, AllOf(HasStatus(Status::exception), HasMetadata("kind", "error")));
  EXPECT_THAT(event, HasMetadata("reason", reason("std::runtime_error", "no route")));
  EXPECT_THAT(event, LacksMetadata("stacktrace"));
}

TEST_F(Exception, OfADerivedClassHasItsOwnTypesName) {
  const auto event = exception_of(Overloaded("busy"));
  EXPECT_THAT(event, HasMetadata("kind", "error"));
  EXPECT_THAT(event, HasMetadata("reason", reason("(anonymous namespace)::Overloaded", "busy")));
}

template <class... Parameters>
struct Expression {};

// Demangling a longer name needs too much stack.
TEST_F(Exception, OfATypeWithMoreThan128CharactersHasItsMangledName) {
  using Short = Expression<Overloaded, Silent>;
  using Long = Expression<std::exception, std::runtime_error, Short, Value, std::string, Expression<Value, int>>;
  EXPECT_GT(std::strlen(typeid(Long).name()), 128U);
  EXPECT_THAT(exception_of(Long()), HasMetadata("reason", reason(typeid(Long).name(), "")));
  EXPECT_THAT(exception_of(Short())->metadata("reason").find("type").as_string(), HasSubstr("::Overloaded"));
}

TEST_F(Exception, WithoutAMessageHasAnEmptyOne) {
  EXPECT_THAT(exception_of(Silent()), HasMetadata("reason", reason("(anonymous namespace)::Silent", "")));
}

TEST_F(Exception, OfAnyOtherTypeIsAThrow) {
  const auto event = exception_of(7);
  EXPECT_THAT(event, AllOf(HasMetadata("kind", "throw"), HasMetadata("reason", reason("int", ""))));
}

TEST_F(Exception, OfAStringHasTheStringAsMessage) {
  EXPECT_THAT(exception_of(std::string("text")), HasMetadata("reason", reason("std::string", "text")));
  const auto event = exception_of(static_cast<const char*>("literal"));
  EXPECT_THAT(event, AllOf(HasMetadata("kind", "throw"), HasMetadata("reason", reason("char const*", "literal"))));
  EXPECT_THAT(exception_of(static_cast<const char*>(nullptr)), HasMetadata("reason", reason("char const*", "")));
}

Value with_cause(Value of, Value cause) { return of.set("cause", std::move(cause)), of; }

TEST_F(Exception, HasTheExceptionsNestedInItAsCauses) {
  const auto work = [] {
    try {
      try {
        throw 7;
      } catch (int) {
        std::throw_with_nested(Overloaded("busy"));
      }
    } catch (const Overloaded&) {
      std::throw_with_nested(std::runtime_error("no answer"));
    }
  };
  EXPECT_THROW(nopspan::span("work", work), std::runtime_error);
  const Value busy = reason("(anonymous namespace)::Overloaded", "busy");
  const Value no_answer = reason("std::runtime_error", "no answer");
  EXPECT_THAT(recorder_.exception(), HasMetadata("reason", with_cause(no_answer, with_cause(busy, reason("int", "")))));
}

TEST_F(Exception, HasAtMostFourCauses) {
  struct Nest {
    static void deeper(int depth) {
      try {
        if (depth > 0) deeper(depth - 1);
        throw 7;
      } catch (...) {
        std::throw_with_nested(std::runtime_error("again"));
      }
    }
  };
  EXPECT_THROW(nopspan::span("work", [] { Nest::deeper(9); }), std::runtime_error);
  Value cause = recorder_.exception()->metadata("reason").copy();
  int causes = 0;
  while (const Value* const next = cause.find("cause")) {
    cause = Value(*next);
    ++causes;
  }
  EXPECT_EQ(causes, 4);
}

TEST_F(Exception, ThatNestsNothingHasNoCause) {
  struct Empty : std::runtime_error, std::nested_exception {
    using runtime_error::runtime_error;
  };
  EXPECT_FALSE(exception_of(Empty("alone"))->metadata("reason").find("cause").exists());
}

TEST_F(Exception, MayComeFromCodeWithoutRtti) {
  EXPECT_THROW(nopspan::span("work", throw_without_rtti), std::exception);
  const Value failed = reason("WithoutRtti", "failed");
  EXPECT_THAT(recorder_.exception(), HasMetadata("reason", with_cause(failed, reason("int", ""))));
}

TEST_F(Exception, EventHasTheStartMetadataToo) {
  try {
    nopspan::span(
        "work", [](Fields& f) { f.set("at", "start").measure("depth", 1); },
        [](Span& span) {
          span.set("later", 1).measure("rows", 2);
          throw std::runtime_error("");
        });
  } catch (const std::runtime_error&) {
  }
  EXPECT_THAT(recorder_.exception(), AllOf(HasMetadata("at", "start"), HasMetadata("later", 1)));
  EXPECT_THAT(keys_of(recorder_.exception()->measurements()), ElementsAre("duration", "monotonic_time", "rows"));
}

TEST_F(Exception, GoesOnToTheCallerAsTheSameObject) {
  const void* thrown = nullptr;
  try {
    nopspan::span("work", [&] {
      try {
        throw std::runtime_error("one");
      } catch (const std::runtime_error& error) {
        thrown = &error;
        throw;
      }
    });
  } catch (const std::runtime_error& error) {
    EXPECT_EQ(&error, thrown);
  }
  EXPECT_NE(thrown, nullptr);
}

TEST(ExceptionWithoutAReceiver, GoesOnToTheCallerWhenTheGateIsDown) {
  EXPECT_THROW(nopspan::span("work", [] { throw std::runtime_error(""); }), std::runtime_error);
}

TEST_F(Exception, EndsEverySpanThatItLeaves) {
  const Recorder recorder{"outer.exception", "inner.exception", "outer.stop", "inner.stop"};
  EXPECT_THROW(nopspan::span("outer", [] { nopspan::span("inner", [] { throw std::runtime_error("deep"); }); }),
               std::runtime_error);
  EXPECT_TRUE(Context::current().empty());
  EXPECT_THAT(recorder.names(), ElementsAre("inner.exception", "outer.exception"));
  for (const auto& event : recorder.events()) {
    EXPECT_THAT(event, HasMetadata("reason", reason("std::runtime_error", "deep")));
  }
}

TEST_F(Exception, ThatIsCaughtInsideDoesNotMatter) {
  nopspan::span("work", [] {
    try {
      throw std::runtime_error("");
    } catch (const std::runtime_error&) {
    }
  });
  EXPECT_THAT(recorder_.names(), ElementsAre("work.start", "work.stop"));
}

TEST_F(Exception, IsUnknownToTheDestructorOfAScope) {
  try {
    const Span span{"work"};
    throw std::runtime_error("not seen");
  } catch (const std::runtime_error&) {
  }
  EXPECT_THAT(recorder_.names(), ElementsAre("work.start", "work.exception"));
  EXPECT_THAT(recorder_.exception(), AllOf(HasStatus(Status::exception), HasMetadata("kind", "error")));
  EXPECT_THAT(recorder_.exception(), HasMetadata("reason", reason("unknown", "")));
}

TEST_F(Exception, IsKnownToAScopeThatCatchesIt) {
  try {
    Span span{"work"};
    try {
      throw std::runtime_error("busy");
    } catch (...) {
      span.caught();
      throw;
    }
  } catch (const std::runtime_error&) {
  }
  EXPECT_THAT(recorder_.names(), ElementsAre("work.start", "work.exception"));
  EXPECT_THAT(recorder_.exception(), HasMetadata("reason", reason("std::runtime_error", "busy")));
}

TEST_F(Exception, EndsAScopeThatDoesNotRethrowIt) {
  {
    Span span{"work"};
    span.fail("timeout");
    try {
      throw 7;
    } catch (...) {
      span.caught();
    }
    EXPECT_TRUE(span);
  }
  EXPECT_THAT(recorder_.exception(), AllOf(HasStatus(Status::exception), HasMetadata("reason", reason("int", ""))));
}

TEST_F(Exception, DoesNotMarkASpanOfADestructorThatRunsMeanwhile) {
  const Recorder recorder{"cleanup.stop", "cleanup.exception"};
  struct Cleaner {
    ~Cleaner() {
      { const Span alone{"cleanup"}; }
      std::optional<Span> first{std::in_place, "cleanup"};
      const Span later{"inside"};
      first.reset();
    }
  };
  try {
    const Cleaner cleaner;
    throw 7;
  } catch (int) {
  }
  EXPECT_THAT(recorder.names(), ElementsAre("cleanup.stop", "cleanup.stop"));
}

TEST_F(Exception, DoesNotMarkAScopeThatBeganInsideTheCatch) {
  try {
    throw 7;
  } catch (int) {
    const Span span{"work"};
  }
  EXPECT_THAT(recorder_.names(), ElementsAre("work.start", "work.stop"));
}

TEST_F(Exception, OfAnotherLanguageGoesThroughAsAnExit) {
  static bool cleaned;
  cleaned = false;
  static _Unwind_Exception foreign;
  std::memset(&foreign, 0, sizeof(foreign));
  foreign.exception_class = 0x464f524549474e00;  // a class that no language uses
  foreign.exception_cleanup = [](_Unwind_Reason_Code, _Unwind_Exception*) { cleaned = true; };
  bool caught = false;
  try {
    nopspan::span("work", [] { _Unwind_RaiseException(&foreign); });
  } catch (...) {
    caught = true;
  }
  EXPECT_TRUE(caught);
  EXPECT_TRUE(cleaned);
  EXPECT_THAT(recorder_.exception(), AllOf(HasMetadata("kind", "exit"), HasMetadata("reason", reason(nullptr, ""))));
}

// ---- fail() and cancel(), and which of them wins.

TEST_F(Outcome, OfAFailedSpanIsAStopWithStatusError) {
  Span{"work"}.fail("timeout", "after 3 s");
  EXPECT_THAT(recorder_.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder_.stop(), AllOf(HasStatus(Status::error), HasMetadata("error.type", "timeout")));
  EXPECT_THAT(recorder_.stop(), HasMetadata("error.message", "after 3 s"));
  EXPECT_THAT(recorder_.start(), HasStatus(Status::ok));
}

TEST_F(Outcome, OfASpanInNoCatalogueIsInItsAttributes) {
  const Recorder recorder{"work.stop", "work.exception"};
  const SpanRecorder starts("work");
  { Span("work").fail("timeout"); }
  { Span("work").set("error.type", "own").fail("refused"); }
  { Span("work").cancel("client gone"); }
  EXPECT_THROW(nopspan::span("work", [] { throw std::runtime_error("secret"); }), std::runtime_error);
  EXPECT_THROW(nopspan::span("work", [](Span& span) { span.set("error.type", "own"), throw 7; }), int);
  const auto types = [](const auto& events) {
    std::vector<Value> found;
    for (const auto& event : events) found.push_back(event->attributes().find("error.type").copy());
    return found;
  };
  EXPECT_THAT(types(recorder.events()), ElementsAre("timeout", "refused", Value(), "std::runtime_error", "own"));
  EXPECT_THAT(types(starts.events("work.start")), ::testing::Each(Value()));
}

TEST_F(Outcome, OfACancelledSpanIsAStopWithStatusCancelled) {
  Span{"work"}.cancel("client gone");
  EXPECT_THAT(recorder_.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder_.stop(), AllOf(HasStatus(Status::cancelled), HasMetadata("cancel.reason", "client gone")));
  EXPECT_THAT(recorder_.stop(), LacksMetadata("error.type"));
}

TEST_F(Outcome, IsWhatWasSaidFirst) {
  {
    Span span{"work"};
    span.fail("first");
    span.cancel("second");
    span.fail("third");
  }
  {
    Span span{"work"};
    span.cancel("first");
    span.fail("second", "message");
  }
  const auto stops = events_of(recorder_, 2, "work.stop");
  EXPECT_THAT(stops[0], AllOf(HasStatus(Status::error), HasMetadata("error.type", "first")));
  EXPECT_THAT(stops[0], LacksMetadata("cancel.reason"));
  EXPECT_THAT(stops[1], AllOf(HasStatus(Status::cancelled), HasMetadata("cancel.reason", "first")));
  EXPECT_THAT(stops[1], AllOf(LacksMetadata("error.type"), LacksMetadata("error.message")));
}

TEST_F(Outcome, IsTheExceptionThatLeavesTheSpan) {
  EXPECT_THROW(nopspan::span("work",
                             [](Span& span) {
                               span.fail("timeout");
                               throw std::runtime_error("boom");
                             }),
               std::runtime_error);
  EXPECT_THROW(
      {
        Span span{"work"};
        span.cancel();
        throw std::runtime_error("boom");
      },
      std::runtime_error);
  const auto exceptions = events_of(recorder_, 2, "work.exception");
  for (const auto& event : exceptions) {
    EXPECT_THAT(event, AllOf(HasStatus(Status::exception), HasMetadata("kind", "error"), LacksMetadata("error.type")));
    EXPECT_THAT(event, LacksMetadata("cancel.reason"));
  }
}

TEST_F(Outcome, OfAnAsyncSpanIsItsEnd) {
  AsyncSpan failed{"work"};
  failed.fail("timeout", "message");
  EXPECT_FALSE(failed);
  failed.cancel();
  failed.end();
  AsyncSpan cancelled{"work"};
  cancelled.cancel("client gone");
  EXPECT_FALSE(cancelled);
  cancelled.fail("late");
  const auto stops = events_of(recorder_, 2, "work.stop");
  EXPECT_THAT(stops[0], AllOf(HasStatus(Status::error), HasMetadata("error.type", "timeout")));
  EXPECT_THAT(stops[1], AllOf(HasStatus(Status::cancelled), HasMetadata("cancel.reason", "client gone")));
}

TEST_F(Outcome, HasCopiesOfItsTextsAndATypeThatIsCutVisiblyWhenTooLong) {
  const Counted truncated(&nopspan::Stats::truncated);
  {
    Span span{"work"};
    std::string type(100, 't'), message = "a message of some length, longer than a short one";
    span.fail(type, message);
    type.assign("xxxxxxx");
    message.clear();
  }
  EXPECT_THAT(recorder_.stop(), HasMetadata("error.type", std::string(60, 't') + "\u2026"));
  EXPECT_THAT(recorder_.stop(), HasMetadata("error.message", "a message of some length, longer than a short one"));
  EXPECT_EQ(truncated.times(), 1U);
}

TEST_F(Outcome, OfASentenceHasNoTypeAndKeepsItAsTheMessage) {
  const Counted repaired(&nopspan::Stats::names_invalid);
  Span{"work"}.fail("the prompt was: my secret");
  Span{"work"}.fail("the prompt was: my secret", "refused");
  const auto stops = events_of(recorder_, 2, "work.stop");
  EXPECT_THAT(stops[0], HasMetadata("error.type", "_OTHER"));
  EXPECT_THAT(stops[0], HasMetadata("error.message", "the prompt was: my secret"));
  EXPECT_TRUE(stops[0]->metadata("error.message").is_content());
  EXPECT_THAT(stops[1], AllOf(HasMetadata("error.type", "_OTHER"), HasMetadata("error.message", "refused")));
  EXPECT_EQ(repaired.times(), 2U);
}

}  // namespace
