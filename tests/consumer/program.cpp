// SPDX-License-Identifier: Apache-2.0
// A consumer's typical program: a Span, a span around a closure in it, and an AsyncSpan. Also compiles without
// exceptions and RTTI.
//
//   handled  attaches a handler, works, prints the events that the handler received
//   hold     works, prints "holding", works again when stdin ends, prints "survived"
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <cstdio>
#include <string>
#include <utility>

namespace {

int work() {
  nopspan::Span scope{"consumer.scope", [](nopspan::Fields& fields) { fields.model("a-model"); }};

  const int six = nopspan::span("consumer.closure", [](nopspan::Span&) {
    return nopspan::result(6, [](const int& value, nopspan::Fields& fields) { fields.measure("value", value); });
  });

  nopspan::AsyncSpan async{"consumer.async", scope.context()};
  nopspan::AsyncSpan moved = std::move(async);
  moved.fail("timeout");
  return six == 6 ? 0 : 1;
}

int handled() {
  const auto handler = [](const nopspan::Event& event) {
    const std::string name(event.name());
    std::printf("%s status %u value %d config %s\n", name.c_str(), static_cast<unsigned>(event.status()),
                static_cast<int>(event.measurement("value").as_int(-1)),
                std::string(event.config().as_string()).c_str());
  };
  const nopspan::Errc attached = nopspan::attach_many(
      "consumer", {"consumer.scope.stop", "consumer.closure.stop", "consumer.async.stop"}, handler, "given");
  const nopspan::Errc again = nopspan::attach("consumer", "consumer.scope.start", handler);
  if (attached != nopspan::Errc::ok || again != nopspan::Errc::already_exists) return 1;
  const int worked = work();
  if (nopspan::detach("consumer") != nopspan::Errc::ok) return 1;
  return worked;
}

int hold() {
  work();
  std::printf("holding\n");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  work();
  const int result = handled();
  std::printf("survived\n");
  return result;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string mode = count == 2 ? arguments[1] : "";
  if (mode == "handled") return handled();
  if (mode == "hold") return hold();
  std::fprintf(stderr, "usage: program handled|hold\n");
  return 2;
}
