// SPDX-License-Identifier: Apache-2.0
/// @file
/// The mcp catalogue: requests and notifications of the Model Context Protocol (https://modelcontextprotocol.io), and
/// the context of a span in `params._meta`.
///
/// @code
/// #include <nopspan/mcp.h>
///
/// #include <nlohmann/json.hpp>
///
/// namespace mcp = nopspan::mcp;
///
/// void call(nlohmann::json& request) {  // a client
///   nopspan::Span span{mcp::client, [](auto& m) { m.method("tools/call").tool_name("weather").rpc_id(7); }};
///   mcp::inject(span, request["params"]);
/// }
/// void serve(const nlohmann::json& request) {  // a server
///   const nopspan::Context transport = nopspan::Context::current();
///   nopspan::span(
///       mcp::server, mcp::extract(request["params"]),
///       [&](auto& m) { m.method("tools/call").tool_name("weather").link(transport); }, [] {});
/// }
/// @endcode
///
/// The context travels with the message, because one request of a transport, such as HTTP, can carry several messages.
/// The keys are those of propagation.h without a prefix, as MCP reserves them (SEP-414).
///
/// Thread safety: that of spans (span.h). inject(), extract() and event_names() may be called from any thread at any
/// time.
#ifndef NOPSPAN_MCP_H
#define NOPSPAN_MCP_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/fields.h>
#include <nopspan/propagation.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
NOPSPAN_SHELL_HEADER

/// The mcp catalogue.
namespace NOPSPAN_NAMESPACE::mcp {

namespace detail {

// An integer in decimal digits.
class Digits {
 public:
  explicit Digits(std::uint64_t number) noexcept {
    do {
      text_[--first_] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
  }
  explicit Digits(std::int64_t number) noexcept
      : Digits(number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number)) {
    if (number < 0) text_[--first_] = '-';
  }
  [[nodiscard]] Text text() const noexcept { return {text_ + first_, sizeof(text_) - first_}; }

 private:
  char text_[20];
  std::size_t first_ = sizeof(text_);
};

template <class Self>
class MessageFields : public BuilderOf<Self> {
 public:
  using BuilderOf<Self>::BuilderOf;
  /// The method of the request or notification ("tools/call"). Always set it.
  Self& method(Text name) {
    if (name.view() == "tools/call") this->set("gen_ai.operation.name", "execute_tool");
    return this->set("mcp.method.name", name);
  }
  /// The tool, if the method is for one.
  Self& tool_name(Text name) { return this->set("gen_ai.tool.name", name); }
  /// The prompt, if the method is for one.
  Self& prompt_name(Text name) { return this->set("gen_ai.prompt.name", name); }
  /// The resource, if the method is for one.
  Self& resource_uri(Text uri) { return this->set("mcp.resource.uri", uri); }
  /// The `id` of a request. A notification has none.
  Self& rpc_id(Text id) { return this->set("jsonrpc.request.id", id); }
  /// The same, for an `id` that is a number.
  template <class T, std::enable_if_t<std::is_integral_v<T>, int> = 0>
  Self& rpc_id(T id) {
    using Number = std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>;
    return rpc_id(Digits(static_cast<Number>(id)).text());
  }
  /// The `code` of a JSON-RPC error. The span's status is then error, unless the program sets a status, or the span is
  /// a server's and the code is -32700, -32600, -32601, -32602 or -32002, because the client made that mistake.
  Self& error_code(std::int64_t code) { return this->set("rpc.response.status_code", Digits(code).text()); }
  /// The MCP session.
  Self& session_id(Text id) { return this->set("mcp.session.id", id); }
  /// The version of MCP ("2025-11-25").
  Self& protocol_version(Text version) { return this->set("mcp.protocol.version", version); }
  /// The transport of the session: "pipe" for stdio, "tcp" or "quic" for HTTP.
  Self& transport(Text name) { return this->set("network.transport", name); }
  /// The protocol and its version over which the session runs ("http", "2").
  Self& network_protocol(Text name, Text version = {}) {
    if (!version.empty()) this->set("network.protocol.version", version);
    return this->set("network.protocol.name", name);
  }
  /// Content: the arguments of a tool call.
  template <class T>
  Self& arguments(const T& value) {
    return this->content("arguments", value);
  }
  /// Content: what the tool returned. If the result has `isError`, call `fail(mcp::tool_error)` on the span.
  template <class T>
  Self& result(const T& value) {
    return this->content("result", value);
  }
};

}  // namespace detail

/// Metadata of mcp.client: a message from when it is sent until its response has arrived.
class ClientFields : public detail::MessageFields<ClientFields> {
 public:
  using MessageFields::MessageFields;
  /// Host name or address of the server.
  ClientFields& server(Text address) { return set("server.address", address); }
  /// Host name or address, and port, of the server.
  ClientFields& server(Text address, std::int64_t port) { return server(address).set("server.port", port); }
};

/// Metadata of mcp.server: a message from when it arrived until its response has been sent.
class ServerFields : public detail::MessageFields<ServerFields> {
 public:
  using MessageFields::MessageFields;
  /// Host name or address of the client.
  ServerFields& client(Text address) { return set("client.address", address); }
  /// Host name or address, and port, of the client.
  ServerFields& client(Text address, std::int64_t port) { return client(address).set("client.port", port); }
};

/// @{
/// The name of a span. MCP lets either side send requests. The side that sends one is its client. A tool call that is
/// already the span llm.tool or agent.tool needs no mcp.client.
NOPSPAN_CONSTANT SpanName<ClientFields> client{"mcp.client"};
NOPSPAN_CONSTANT SpanName<ServerFields> server{"mcp.server"};
/// @}

/// The error type of a tool call whose result has `isError`: `span.fail(mcp::tool_error)`.
NOPSPAN_CONSTANT std::string_view tool_error = "tool_error";

/// Writes `context`, which may be that of a Span or AsyncSpan, into the `_meta` of `params`, in place of the context
/// that is there. The other keys of `_meta` stay. `params` is an object or null, of the type nlohmann::json or one like
/// it. For an empty context without baggage, nothing is written or removed. Throws only what `params` throws.
template <class Params>
void inject(ContextRef context, Params& params) {
  bool removed = false;
  nopspan::inject(context, [&](std::string_view key, std::string_view value) {
    auto& meta = params["_meta"];
    for (const char* const old : {"traceparent", "tracestate", "baggage"}) {
      if (!removed && meta.is_object()) meta.erase(old);
    }
    removed = true;
    meta[typename Params::object_t::key_type(key)] = typename Params::string_t(value);
  });
}

/// Reads the context in the `_meta` of `params`. A part that is missing, or that is not a text, counts as empty. The
/// type of `params` is as for inject(), and the limits are those of nopspan::extract(). Does not throw.
template <class Params>
[[nodiscard]] Context extract(const Params& params) {
  if (!params.is_object()) return {};
  const auto meta = params.find("_meta");
  if (meta == params.end() || !meta->is_object()) return {};
  return nopspan::extract([&](const char* key) -> const typename Params::string_t* {
    const auto found = meta->find(key);
    return found == meta->end() ? nullptr : found->template get_ptr<const typename Params::string_t*>();
  });
}

/// The prefix of all names in this catalogue.
constexpr std::string_view event_prefix() noexcept { return "mcp"; }
/// The names of all events: three for each span (start, stop, exception).
NOPSPAN_API EventNames event_names() noexcept NOPSPAN_IN_SHELL(return {});

}  // namespace NOPSPAN_NAMESPACE::mcp

#endif  // NOPSPAN_MCP_H
