// SPDX-License-Identifier: Apache-2.0
// The mcp catalogue: spans of messages, their failures and metrics, and contexts in params._meta.
#include "recorded.h"

#include <nopspan/genai.h>
#include <nopspan/mcp.h>

#include <nlohmann/json.hpp>

namespace {

namespace genai = nopspan::genai;
namespace mcp = nopspan::mcp;
using nlohmann::json;
using nopspan::SpanKind;

constexpr const char* kTraceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(Mcp, ToolCallFollowsTheConventions) {
  const auto stop = stopped(mcp::client, [](auto& m) {
    m.method("tools/call").tool_name("weather").rpc_id(7).session_id("s").protocol_version("2025-11-25");
    m.transport("tcp").network_protocol("http", "2").server("h", 80).arguments("{}").result("sunny");
  });
  Value attributes = stop->attributes().copy();
  for (const auto& [key, text] :
       {std::pair("mcp.method.name", "tools/call"), std::pair("gen_ai.operation.name", "execute_tool"),
        std::pair("gen_ai.tool.name", "weather"), std::pair("jsonrpc.request.id", "7"),
        std::pair("mcp.session.id", "s"), std::pair("mcp.protocol.version", "2025-11-25"),
        std::pair("network.transport", "tcp"), std::pair("network.protocol.name", "http"),
        std::pair("network.protocol.version", "2"), std::pair("server.address", "h"),
        std::pair("gen_ai.tool.call.arguments", "{}"), std::pair("gen_ai.tool.call.result", "sunny")}) {
    ASSERT_NE(attributes.find(key), nullptr) << key;
    EXPECT_EQ(*attributes.find(key), Value(text)) << key;
  }
  EXPECT_EQ(*attributes.find("server.port"), Value(80));
  EXPECT_THAT(stop, AllOf(HasContent("gen_ai.tool.call.arguments"), HasContent("gen_ai.tool.call.result")));
  EXPECT_EQ(kind_of(stop), SpanKind::client);
  EXPECT_EQ(genai::span_name(*stop), "tools/call weather");
}

TEST(Mcp, OtherMethodsAreNoOperation) {
  const auto stop = stopped(mcp::server, [](auto& m) { m.method("initialize").client("peer", 9); });
  EXPECT_THAT(stop, AllOf(LacksAttribute("gen_ai.operation.name"), HasAttribute("client.address", "peer")));
  EXPECT_EQ(kind_of(stop), SpanKind::server);
  EXPECT_EQ(genai::span_name(*stop), "initialize");
  const auto prompt = stopped(mcp::client, [](auto& m) { m.method("prompts/get").prompt_name("review"); });
  EXPECT_EQ(genai::span_name(*prompt), "prompts/get review");
}

TEST(Mcp, RecordsTheDurationOfBothSides) {
  const auto fill = [](auto& m) { m.method("tools/call").tool_name("weather").resource_uri("file:///a").rpc_id("7"); };
  for (const auto& [stop, name] : {std::pair(stopped(mcp::client, fill), "mcp.client.operation.duration"),
                                   std::pair(stopped(mcp::server, fill), "mcp.server.operation.duration")}) {
    const std::vector<genai::Metric> metrics = genai::metrics(*stop);
    ASSERT_THAT(metrics, SizeIs(1));
    EXPECT_EQ(metrics[0].name, name);
    EXPECT_EQ(metrics[0].boundary_count, 14U);
    EXPECT_EQ(metrics[0].boundaries[13], 300.0);
    EXPECT_EQ(metrics[0].attributes, Value::map({{"mcp.method.name", "tools/call"},
                                                 {"gen_ai.tool.name", "weather"},
                                                 {"gen_ai.operation.name", "execute_tool"}}));
  }
}

TEST(Mcp, ErrorCodeFailsTheClient) {
  for (const std::int64_t code : {-32603, -32602, -32000, 1}) {
    const auto stop = stopped(mcp::client, [&](auto& m) { m.method("ping").error_code(code); });
    EXPECT_THAT(stop, HasStatus(Status::error));
    EXPECT_EQ(stop->attributes().find("error.type").as_string(), std::to_string(code));
    EXPECT_EQ(stop->attributes().find("rpc.response.status_code").as_string(), std::to_string(code));
  }
}

TEST(Mcp, ErrorCodeFailsTheServerUnlessItIsTheClientsFault) {
  const auto status_of = [](std::int64_t code) {
    const auto stop = stopped(mcp::server, [&](auto& m) { m.method("ping").error_code(code); });
    EXPECT_EQ(stop->attributes().find("rpc.response.status_code").as_string(), std::to_string(code));
    EXPECT_EQ(stop->attributes().find("error.type").exists(), stop->status() == Status::error);
    return stop->status();
  };
  for (const std::int64_t code : {-32603, -32099, -32003, -32001, -32000, -32100, -31999, 0, 1}) {
    EXPECT_EQ(status_of(code), Status::error) << code;
  }
  for (const std::int64_t code : {-32700, -32600, -32601, -32602, -32002})
    EXPECT_EQ(status_of(code), Status::ok) << code;
}

TEST(Mcp, ErrorCodeIsLessThanWhatTheApplicationSays) {
  const SpanRecorder recorder("mcp.client");
  Span{mcp::client, [](auto& m) { m.method("tools/call").error_code(-32603); }}.fail(mcp::tool_error);
  EXPECT_THAT(recorder.stop(), HasAttribute("error.type", "tool_error"));
}

TEST(Mcp, DigitsAreThoseOfTheWholeRange) {
  for (const std::int64_t number : {INT64_MIN, std::int64_t{-1}, std::int64_t{0}, std::int64_t{10}, INT64_MAX}) {
    EXPECT_EQ(mcp::detail::Digits(number).text().view(), std::to_string(number));
  }
}

TEST(Mcp, IdOfARequestMayBeAnyInteger) {
  const auto id_with = [](auto id) {
    const auto stop = stopped(mcp::client, [&](auto& m) { m.method("ping").rpc_id(id); });
    return std::string(stop->attributes().find("jsonrpc.request.id").as_string());
  };
  EXPECT_EQ(id_with(UINT64_MAX), "18446744073709551615");
  EXPECT_EQ(id_with(INT64_MIN), "-9223372036854775808");
  EXPECT_EQ(id_with(-1), "-1");
  EXPECT_EQ(id_with(7U), "7");
}

TEST(McpContext, TravelsInMeta) {
  const Context sent = Context::from_traceparent(kTraceparent, "congo=1");
  json params = {{"name", "weather"}, {"_meta", {{"progressToken", 3}}}};
  mcp::inject(sent, params);
  EXPECT_EQ(params,
            json({{"name", "weather"},
                  {"_meta", {{"progressToken", 3}, {"traceparent", kTraceparent}, {"tracestate", "congo=1"}}}}));
  const Context received = mcp::extract(params);
  EXPECT_EQ(received.traceparent(), kTraceparent);
  EXPECT_EQ(received.tracestate(), "congo=1");
}

TEST(McpContext, MakesTheServersSpanAChildOfTheClients) {
  const SpanRecorder servers("mcp.server");
  json params;
  std::uint64_t client_id = 0;
  {
    const Span span{mcp::client, [](auto& m) { m.method("ping"); }};
    client_id = id_of(span);
    mcp::inject(span, params);
  }
  nopspan::span(
      mcp::server, mcp::extract(params), [](auto& m) { m.method("ping"); }, [] {});
  EXPECT_EQ(servers.stop()->parent_id(), client_id);
}

TEST(McpContext, ReplacesAnEarlierOne) {
  json params = {{"_meta", {{"traceparent", "old"}, {"tracestate", "old=1"}, {"baggage", "tenant=old"}}}};
  mcp::inject(Context::from_traceparent(kTraceparent), params);
  EXPECT_EQ(params, json({{"_meta", {{"traceparent", kTraceparent}}}}));
}

TEST(McpContext, OfNoSpanChangesNothing) {
  json params;
  mcp::inject(Context(), params);
  EXPECT_TRUE(params.is_null());
}

TEST(McpContext, IsEmptyIfThePeerSendsSomethingElse) {
  for (const char* text : {"null", "[1]", "7", "{}", R"({"_meta": null})", R"({"_meta": [1]})", R"({"_meta": "x"})",
                           R"({"_meta": {"traceparent": 7}})", R"({"_meta": {"traceparent": null}})",
                           R"({"_meta": {"traceparent": {"a": 1}, "tracestate": [], "baggage": 1}})"}) {
    EXPECT_TRUE(mcp::extract(json::parse(text)).empty()) << text;
  }
}

}  // namespace
