// SPDX-License-Identifier: Apache-2.0
// Headers from other processes: traceparent, tracestate, request ids and baggage with any bytes. An input has four
// lines, one for each of these. The whole input is also tried as each of the four.
#include "require.h"
#include "utf8_model.h"
#include "w3c_model.h"

#include <nopspan/context.h>
#include <nopspan/propagation.h>
#include <nopspan/stats.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace {

using nopspan::Context;

void check_headers(std::string_view traceparent, std::string_view tracestate) {
  const nopspan::Stats before = nopspan::stats();
  const Context context = Context::from_traceparent(traceparent, tracestate);
  const nopspan::Stats after = nopspan::stats();
  const std::uint64_t invalid = after.invalid_ids - before.invalid_ids;
  const std::uint64_t dropped = after.invalid_tracestate - before.invalid_tracestate;

  const Traceparent expected = read_traceparent(traceparent);
  require(context.empty() != expected.valid, "what the grammar has is accepted, and nothing else");
  require(invalid == (expected.valid || traceparent.empty() ? 0 : 1), "a malformed traceparent is counted");
  if (context.empty()) {
    require(context.traceparent().empty() && context.tracestate().empty(), "an empty context has no headers");
    require(dropped == 0, "a tracestate without a traceparent is not looked at");
    return;
  }
  const auto flags = static_cast<unsigned>(std::stoul(expected.flags, nullptr, 16));
  require(context.trace_id() == expected.trace_id, "the trace id is the header's");
  require(context.span_id() == std::stoull(expected.parent_id, nullptr, 16), "the span id is the header's");
  require(context.sampled() == ((flags & 1U) != 0), "the sampled flag is the header's");

  const std::string sent = context.traceparent();
  const std::string known_flags = (flags & 1U) != 0 ? "01" : "00";
  require(sent == (expected.current ? std::string(without_blanks(traceparent))
                                    : "00-" + expected.trace_id + "-" + expected.parent_id + "-" + known_flags),
          "version 00 goes out as it came in, a later one as version 00");

  const Tracestate state = read_tracestate(tracestate);
  const std::string sent_state = context.tracestate();
  require(sent_state.size() <= 512, "a tracestate is at most 512 bytes");
  require(sent_state == state.header, "the tracestate goes out, but for the members that are too much");
  require(dropped == state.dropped, "what is left out of a tracestate is counted");

  const Context again = Context::from_traceparent(sent, sent_state);
  require(again.trace_id() == context.trace_id() && again.span_id() == context.span_id() &&
              again.sampled() == context.sampled(),
          "the next process has the same ids");
  require(again.traceparent() == sent && again.tracestate() == sent_state, "and sends the same headers");
}

void check_request_id(std::string_view id) {
  const nopspan::Stats before = nopspan::stats();
  const Context context = Context::with_request_id(id);
  require(nopspan::stats().invalid_ids - before.invalid_ids == (id.empty() ? 1 : 0), "no id is counted");
  require(!context.empty() && context.span_id() == 0, "any id gives a context without a span");

  const Traceparent sent = read_traceparent(context.traceparent().view());
  require(sent.valid && sent.current && sent.trace_id == context.trace_id().view(), "its traceparent is well formed");
  const std::string visible = context.request_id();
  require(!visible.empty() && is_printable_name(visible), "its visible id is at most 63 bytes that can be printed");
  if (!id.empty() && is_printable_name(id)) require(visible == id, "an id that can be printed stays as it is");
  require(Context::with_request_id(visible).request_id() == visible, "a visible id stays as it is");

  const nopspan::ContextScope here{context};
  require(nopspan::request_id() == visible && Context::current().traceparent() == context.traceparent(),
          "an attached context is the current one");
}

std::string forward_baggage(std::string_view header) {
  std::string sent;
  nopspan::inject(
      nopspan::extract([&](std::string_view key) { return key == "baggage" ? header : std::string_view(); }),
      [&](nopspan::Text key, nopspan::Text value) {
        require(key.view() == "baggage", "without a traceparent only baggage goes out");
        sent = value.view();
      });
  return sent;
}

void check_baggage(std::string_view header) {
  const std::string sent = forward_baggage(header);
  require(sent.size() <= 8192, "baggage is at most 8192 bytes");
  const std::vector<std::string> members = split(sent, ',');
  require(members.size() <= 64, "baggage has at most 64 members");
  for (const std::string& member : members) {
    if (sent.empty() || member.rfind("tenant", 0) == 0) continue;  // a label is encoded again
    require(header.find(member) != std::string_view::npos, "a member goes out as it came in");
  }
  const std::uint64_t dropped = nopspan::stats().baggage_dropped;
  require(forward_baggage(sent) == sent, "the next process sends the same baggage");
  require(nopspan::stats().baggage_dropped == dropped, "and drops nothing");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::string_view kParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const std::string all(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> lines = split(all, '\n');
  lines.resize(4);
  check_headers(lines[0], lines[1]);
  check_headers(all, {});
  check_headers(kParent, lines[1]);
  check_headers(kParent, all);
  check_request_id(lines[2]);
  check_request_id(all);
  check_baggage(lines[3]);
  check_baggage(all);
  return 0;
}
