#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the compilers say about wrong uses of the headers: one error, with a text that says what is wrong."""
import concurrent.futures
import os
import re
import subprocess
import unittest

import surroundings

INCLUDE = os.path.join(os.environ["NOPSPAN_STAGE"], "include")
NAME = "the name of a span or event is a text, or a name of a catalogue"
FIELDS = "fields are set by a callable that takes nopspan::Fields&, or the catalogue's builder"
SCOPE = "a nopspan::Span is a child of the thread's current span. A parent is given to"
LATE = "the parent follows the name, before the other arguments"
ORDER = "the order of arguments is: name, parent, kind or options, fields, work"
VALUE = "a value is null, a bool, a number, a text, an enum, a std::chrono duration, a nopspan::Value, or an optional or a range of these"
WORK = "the work of a span is a callable that takes nothing, or the span"
REQUIRED = "this event has a required field, which is an argument before the callable"
# Only the headers that a statement needs, because each is compiled alone.
HEADERS = {"agent::": "<nopspan/agent.h>", "open_pull": "<nopspan/stream.h>", "llm::": "<nopspan/llm.h>", "genai::": "<nopspan/genai_spans.h>", "execute": "<nopspan/execute.h>", "gauge": "<nopspan/execute.h>", "engine::": "<nopspan/engine.h>", "event": "<nopspan/event.h>", "chrono::": "<chrono>",
           "vector": "<vector>", "detach": "<nopspan/registry.h>", "HasMetadata": "<nopspan/testing_gmock.h>",
           "std::string": "<string>", "inject": "<nopspan/propagation.h>", "extract": "<nopspan/propagation.h>"}
PROGRAM = """\
#include <nopspan/span.h>
namespace nopspan {
class Event;
}
struct Thing {};
int* pull();
void wrong(nopspan::Span& span, const nopspan::Event& event, int* pointer) {
  static_cast<void>(span), static_cast<void>(event), static_cast<void>(pointer);
  %s
}
"""
# A statement, and a pattern of its only error.
ERRORS = {
    "nopspan::Span s{42};": NAME,
    "nopspan::Span s{nullptr};": NAME,
    "nopspan::Span s{42, nopspan::SpanKind::client};": NAME,
    "nopspan::Span s{42, [](auto&) {}};": NAME,
    "nopspan::AsyncSpan s{42};": NAME,
    "nopspan::AsyncSpan s{nullptr, span, [](auto&) {}};": NAME,
    "nopspan::span(42, [] {});": NAME,
    "nopspan::complete(42, span, 1, 5);": NAME,
    "nopspan::execute(42);": NAME,
    "nopspan::execute(span, 42, [](auto&) {});": NAME,
    "span.event(42);": NAME,
    'nopspan::Span s{"a", 42};': FIELDS,
    'nopspan::Span s{"a", nopspan::SpanKind::client, 42};': FIELDS,
    'nopspan::Span s{"a", [](nopspan::llm::ChatFields& m) { m.provider("p"); }};': FIELDS,
    'nopspan::AsyncSpan s{"a", 42};': FIELDS,
    'nopspan::AsyncSpan s{"a", span, 42};': FIELDS,
    'nopspan::span("a", 42, [] {});': FIELDS,
    'nopspan::execute("a", 42);': FIELDS,
    'nopspan::execute("a", span);': FIELDS,
    'nopspan::Span s{"a", Thing()};': FIELDS,
    'nopspan::Span s{"a", span.context()};': SCOPE,
    'nopspan::Span s{"a", span, [](auto&) {}};': SCOPE,
    'nopspan::span("a", span, Thing(), [] {});': FIELDS,
    'nopspan::span("a", 42);': WORK,
    'nopspan::span("a", span.context());': WORK,
    'nopspan::span("a", [](nopspan::Fields&) {});': WORK,
    'nopspan::span("a", span, nopspan::SpanKind::server, [](int) {});': WORK,
    'nopspan::async_span("a", span, 42);': WORK,
    'span.event("a", 42);': FIELDS,
    'nopspan::Span s{"a", nopspan::SpanKind::client, nopspan::Context()};': SCOPE,
    'nopspan::AsyncSpan s{"a", nopspan::SpanKind::client, nopspan::Context()};': LATE,
    'nopspan::AsyncSpan s{"a", nopspan::SpanKind::client, span};': LATE,
    'nopspan::AsyncSpan s{"a", nopspan::SpanKind::client, [](auto&) {}, span};': LATE,
    'nopspan::AsyncSpan s{"a", [](auto&) {}, span};': LATE,
    'nopspan::async_span("a", nopspan::SpanKind::client, span, [] {});': LATE,
    'nopspan::span("a", nopspan::SpanKind::client, nopspan::Context(), [] {});': SCOPE,
    'nopspan::span("a", [](auto&) {}, nopspan::Context(), [] {});': SCOPE,
    'nopspan::async_span("a", [] {});': LATE,
    'nopspan::RequestSpan s{"a", nopspan::SpanKind::client, span};': LATE,
    'nopspan::complete("a", 1, 5, span);': LATE,
    'nopspan::Span s{"a", [](auto&) {}, nopspan::SpanKind::client};': ORDER,
    'nopspan::AsyncSpan s{"a", [](auto&) {}, nopspan::SpanKind::client};': ORDER,
    'nopspan::AsyncSpan s{"a", span, [](auto&) {}, nopspan::SpanKind::client};': ORDER,
    'nopspan::span("a", [] {}, nopspan::SpanKind::client);': ORDER,
    'nopspan::span("a", [](auto&) {}, nopspan::SpanKind::client, [] {});': ORDER,
    'nopspan::async_span("a", span, [] {}, nopspan::SpanKind::client);': ORDER,
    'nopspan::async_span("a", span, [](auto&) {}, nopspan::SpanKind::client, [] {});': ORDER,
    "span.with<nopspan::llm::ChatFields>([](nopspan::Fields&, int) {});": FIELDS,
    "nopspan::agent::tool_span([] {}, [] {});": "the metadata of a tool, which comes first, is a callable that takes ToolFields&, or a map",
    "nopspan::agent::tool_span([](auto&, int) {}, [] {});": "the metadata of a tool, which comes first",
    "nopspan::llm::open_pull([] { return pull; }, [](auto& m) { m.model(\"m\"); });": FIELDS,
    'nopspan::execute("a", nopspan::Context());': FIELDS,
    'span.set("k", Thing());': VALUE,
    'span.set("k", pointer);': VALUE,
    'span.set("k", std::vector<Thing>());': VALUE,
    'span.set("k", L"wide");': VALUE,
    'span.set("k", std::vector<char16_t>());': VALUE,
    'span.content("k", Thing());': VALUE,
    'nopspan::Span s{"a", [](auto& m) { m.set("k", Thing()); }};': VALUE,
    'span.set("k", __int128());': VALUE,
    'span.set("k", std::vector<unsigned __int128>());': VALUE,
    'span.measure("k", __int128());': "a measurement is an integer, a double or a std::chrono duration",
    'span.measure("k", "text");': "a measurement is an integer, a double or a std::chrono duration",
    "nopspan::genai::tool_call(span);": REQUIRED,
    "nopspan::genai::retry(span.context());": REQUIRED,
    'nopspan::genai::retry([](auto& e) { e.reason("x"); });': REQUIRED,
    'nopspan::genai::evaluation_result(span, [](auto& e) { e.score(1); });': REQUIRED,
    'nopspan::gauge("load", 0.73);': "the value of a gauge or counter is an integer",
    'nopspan::engine::stats([](auto& s) { s.gauge("load", 0.73); });': "the value of a gauge or counter is an integer",
    "nopspan::Span s{nopspan::llm::chat, [](auto& m) { m.temprature(1); }};":
        r"class nopspan::llm::ChatFields.* has no member named .temprature|no member named 'temprature' in 'nopspan::llm::ChatFields'",
    'nopspan::Span s{"a", [](auto& m) { m.provider("p"); }};':
        r"class nopspan::Fields.* has no member named .provider|no member named 'provider' in 'nopspan::Fields'",
    'nopspan::complete("a", span, std::chrono::system_clock::now(), 5);':
        "a nopspan::Time is of std::chrono::steady_clock, or CLOCK_MONOTONIC in ns",
    "nopspan::Event kept = event; static_cast<void>(kept);":
        r"nopspan::Event::Event\(const nopspan::Event&\).* is private|calling a private constructor of class 'nopspan::Event'",
    "nopspan::Span copy = span;": r"deleted function .*Span\(const nopspan::Span&\)|deleted constructor of 'nopspan::Span'",
    "nopspan::inject(pointer);": "a callable that takes a key and a value, both nopspan::Text or std::string_view",
    "std::vector<std::pair<std::string, std::string_view>> views; nopspan::inject(span, views);":
        "a carrier into which headers are written has texts of its own, not views",
    "const std::vector<std::pair<std::string, std::string>> sent; nopspan::inject(span, sent);": "a carrier into which headers are written is not const",
    "struct At { std::pair<std::string, std::string> operator*() const; std::pair<std::string, std::string>* operator->() const;"
    " At& operator++(); bool operator!=(At) const; }; struct Made { At begin() const; At end() const; };"
    " static_cast<void>(nopspan::extract(Made()));": "the values of a carrier are texts of its own or views, not texts that its iterator makes",
    "static_cast<void>(nopspan::extract(pointer));":
        "a carrier is a container of pairs of texts, or a callable that takes a key and returns a value",
    'const ::testing::Matcher<nopspan::OwnedEvent> m = nopspan::testing::HasMetadata("k", ::testing::Gt(2));':
        "HasMetadata and HasMeasurement take a value",
    "if (event.status() == 3) {}": r"operand types are .nopspan::Status. and .int.|\('nopspan::Status' and 'int'\)",
}
# Coroutines whose promises do not know nopspan. asio (1.22) does not know that clang has coroutines.
TASKS = ("""\
struct Task {
  struct promise_type {
    Task get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() {}
  };
};
""", "#define ASIO_HAS_CO_AWAIT\n#define ASIO_HAS_STD_COROUTINE\n#include <asio.hpp>\nusing Task = asio::awaitable<void>;\n")
AWAITED = ('co_span("a", [] { return std::suspend_always(); })', "context_scope(nopspan::Context())")
# Statements with asio, and a pattern of their only error.
SPAWNED = {
    'nopspan::spawn_span(io, asio::detached, "a", nopspan::SpanKind::client, parent, work);': LATE,
    'nopspan::spawn_span(io, asio::detached, "a", parent, [](auto&) {}, nopspan::SpanKind::client, work);': ORDER,
    'nopspan::spawn_span(io, asio::detached, parent, "a", work);': NAME,
    'nopspan::spawn_span(io, asio::detached, "a", parent, [] {});': r"the work of spawn_span\(\) returns an asio::awaitable",
}
# The application's own functions and classes, which the functions that report an order must not take the place of.
OWN = """\
#include <nopspan/span.h>
#include <string_view>
#include <type_traits>
#include <utility>
namespace app {
void complete(nopspan::AsyncSpan&, std::string_view);
void span(nopspan::AsyncSpan&, long, long, long);
void finish(nopspan::AsyncSpan& s) { complete(s, "ok"), span(s, 1, 2, 3); }
struct Scope : nopspan::Span {
  using Span::Span;
  Scope(std::string_view, unsigned, std::string_view);
};
void serve(nopspan::RequestSpan);
void serve(std::pair<const char*, int>);
void call() {
  Scope s{"get", 3, "acme"};
  serve({"x", 80});
}
static_assert(!std::is_constructible_v<nopspan::RequestSpan, const char*, int>);
static_assert(!std::is_constructible_v<nopspan::Span, const char*, int, int>);
}
"""
# Statements that compile with a warning of [[nodiscard]].
IGNORED = ('nopspan::Span{"x"};', 'nopspan::Span("x", [](auto&) {});', 'nopspan::Span{"x", nopspan::SpanKind::client};',
           'nopspan::AsyncSpan{"x"};', 'nopspan::AsyncSpan{"x", span};', 'nopspan::AsyncSpan{"x", [](auto&) {}};',
           "nopspan::ContextScope{nopspan::Context()};", "nopspan::ContextScope{span};", 'nopspan::detach("x");',
           "nopspan::wrap([] {});")


def compiled(compiler, statement):
    """(exit status, errors, all that the compiler says)"""
    includes = "".join(f"#include {header}\n" for word, header in HEADERS.items() if word in statement)
    return compiled_file(compiler, "-std=gnu++17", includes + PROGRAM % statement)


def compiled_file(compiler, standard, text):
    command = [compiler, standard, "-Wall", "-fsyntax-only", "-fno-color-diagnostics" if "clang" in compiler else
               "-fdiagnostics-color=never", "-I", INCLUDE, "-x", "c++", "-"]
    done = subprocess.run(command, input=text, stderr=subprocess.PIPE, text=True, check=False,
                          env={**os.environ, "LC_ALL": "C"})
    return done.returncode, re.findall(r"error: (.*)", done.stderr), done.stderr


def all_compiled(statements):
    """(compiler and statement, what compiled() returns) for each compiler and statement."""
    jobs = [(compiler, statement) for compiler in surroundings.COMPILERS for statement in statements]
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return zip(jobs, pool.map(lambda job: compiled(*job), jobs))


class Messages(unittest.TestCase):
    def test_a_wrong_use_is_one_error_that_says_what_is_wrong(self):
        for (compiler, statement), (status, errors, text) in all_compiled(ERRORS):
            with self.subTest(compiler=compiler, statement=statement):
                self.assertNotEqual(status, 0)
                self.assertEqual(len(errors), 1, text)
                self.assertRegex(errors[0], ERRORS[statement])

    def test_a_coroutine_of_another_library_gets_one_error_that_says_what_to_do(self):
        for task in TASKS:
            for awaited in AWAITED:
                for compiler in surroundings.COMPILERS:
                    with self.subTest(compiler=compiler, task=task, awaited=awaited):
                        text = f"#include <nopspan/coroutine.h>\n{task}Task wrong() {{ co_await nopspan::{awaited}; }}\n"
                        status, errors, text = compiled_file(compiler, "-std=c++20", text)
                        self.assertNotEqual(status, 0)
                        self.assertEqual(len(errors), 1, text)
                        self.assertRegex(errors[0], r"In a coroutine of asio use nopspan::spawn_span\(\)")

    def test_a_wrong_use_of_spawn_span_is_one_error_that_says_what_is_wrong(self):
        calls = "".join(
            "void wrong%d(asio::io_context& io, nopspan::Context& parent) { auto work = [] { return task(); };"
            " static_cast<void>(work), static_cast<void>(parent); %s }\n" % row for row in enumerate(SPAWNED))
        text = f"#include <nopspan/coroutine.h>\n{TASKS[1]}Task task();\n{calls}"
        for compiler in surroundings.COMPILERS:
            with self.subTest(compiler=compiler):
                _, errors, said = compiled_file(compiler, "-std=c++20", text)
                self.assertEqual(len(errors), len(SPAWNED), said)
                for statement, pattern in SPAWNED.items():
                    self.assertEqual(len([error for error in errors if re.search(pattern, error)]), 1, statement)

    def test_an_object_or_error_that_is_ignored_is_a_warning(self):
        for (compiler, statement), (status, errors, text) in all_compiled(IGNORED):
            with self.subTest(compiler=compiler, statement=statement):
                self.assertEqual((status, errors), (0, []), text)
                self.assertIn("nodiscard", text)

    def test_the_applications_own_functions_are_called(self):
        for compiler in surroundings.COMPILERS:
            status, errors, text = compiled_file(compiler, "-std=gnu++17", OWN)
            self.assertEqual((status, errors), (0, []), text)

    def test_the_program_itself_is_right(self):
        for _, (status, errors, text) in all_compiled(['span.set("k", 1);']):
            self.assertEqual((status, errors, text), (0, [], ""))


surroundings.need(*surroundings.COMPILERS)
surroundings.main()
