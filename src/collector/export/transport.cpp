// SPDX-License-Identifier: Apache-2.0
#include "export/transport.h"

#include "base/failure.h"
#include "base/gzip.h"
#include "base/text.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostAnswerHeader = 8U << 10U, kMostHeaderBytes = 512U << 10U;
// Most of what level 6 saves, in a third of its time.
constexpr int kGzipLevel = 1;
constexpr auto kPollPause = std::chrono::milliseconds(1000);

template <auto kFunction>
struct FreeBy {
  void operator()(auto* object) const { kFunction(object); }
};
using HeaderList = std::unique_ptr<curl_slist, FreeBy<curl_slist_free_all>>;

void append_header(HeaderList& list, const std::string& line) {
  curl_slist* const grown = curl_slist_append(list.get(), line.c_str());
  if (grown == nullptr) throw std::bad_alloc();
  static_cast<void>(list.release());
  list.reset(grown);
}

// The state of a request, for libcurl's callbacks.
struct Exchange {
  std::string_view unsent;
  std::size_t header_bytes = 0;
  GrpcAnswer answer;           // of a receiver without gRPC only `http` is used
  bool asks_for_ages = false;  // Retry-After has more digits than libcurl reads

  // If the status is an error, it counts even if the connection broke afterwards. A success counts with its whole body
  // only, because the body may reject items.
  [[nodiscard]] bool has_answer(std::optional<CURLcode> result, OtlpProtocol protocol) const {
    if (is_not_http(protocol)) return false;
    if (result && (*result == CURLE_OK || answer.http.is_body_cut)) return true;
    const bool is_error = protocol == OtlpProtocol::grpc && !answer.status.empty() && answer.status != "0";
    return is_error || answer.http.status >= 300;
  }
  // Whether bytes came that are not HTTP/1.1. libcurl takes them for the body of HTTP/0.9.
  [[nodiscard]] bool is_not_http(OtlpProtocol protocol) const {
    return protocol != OtlpProtocol::grpc && header_bytes == 0 && !answer.http.body.empty();
  }
  // Whether they begin with a frame SETTINGS of the connection, with which each server of HTTP/2 begins.
  [[nodiscard]] bool is_http2() const {
    constexpr std::size_t kHead = 9;
    const std::string& body = answer.http.body;
    return body.size() >= kHead && body[3] == 4 && body.compare(5, 4, std::string(4, '\0')) == 0;
  }
};

std::size_t on_read(char* to, std::size_t size, std::size_t count, void* exchange) {
  std::string_view& unsent = static_cast<Exchange*>(exchange)->unsent;
  const std::size_t bytes = std::min(size * count, unsent.size());
  std::memcpy(to, unsent.data(), bytes);
  unsent.remove_prefix(bytes);
  return bytes;
}

std::size_t on_body(char* from, std::size_t size, std::size_t count, void* exchange) {
  HttpAnswer& answer = static_cast<Exchange*>(exchange)->answer.http;
  const std::size_t bytes = size * count;
  const std::size_t fits = std::min(bytes, kMostAnswerBytes - answer.body.size());
  answer.body.append(from, fits);
  answer.is_body_cut = answer.is_body_cut || fits < bytes;
  return fits;  // fewer than there are: libcurl ends the request
}

// libcurl passes the headers of each response line by line, and then the trailers.
std::size_t on_header(char* from, std::size_t size, std::size_t count, void* exchange) {
  auto& [unsent, header_bytes, answer, asks_for_ages] = *static_cast<Exchange*>(exchange);
  const std::string_view line(from, size * count);
  header_bytes += line.size();
  if (header_bytes > kMostHeaderBytes) return 0;  // libcurl bounds the headers, but not the trailers
  if (line.starts_with("HTTP/")) {                // the response after an interim one
    answer = {};
    asks_for_ages = false;
    return line.size();
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || line.size() > kMostAnswerHeader) return line.size();
  const auto is_named = [&](std::string_view name) { return is_same_word(line.substr(0, colon), name); };
  std::string_view value = line.substr(colon + 1);
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  value = value.substr(0, value.find_last_not_of(" \t\r\n") + 1);
  if (is_named("content-type")) answer.http.content_type = value;
  if (is_named("grpc-status")) answer.status = value;
  // libcurl ignores a number that does not fit.
  constexpr std::size_t kMostDigits = 9;
  if (is_named("retry-after") && value.find_first_not_of("0123456789") == std::string_view::npos)
    asks_for_ages = value.size() > kMostDigits;
  if (is_named("grpc-message")) answer.message = value;
  if (is_named("grpc-status-details-bin")) answer.details = value;
  return line.size();
}

// One for each signal. They share the connections, which belong to CurlTransport::multi_.
struct Handle {
  std::unique_ptr<CURL, FreeBy<curl_easy_cleanup>> easy;
  HeaderList headers;
  std::array<char, CURL_ERROR_SIZE> error{};
  bool has_answered = false;  // its receiver speaks the protocol
};

// The body of the request in the protocol's form: `made`, or the body's own bytes if they need no change.
std::optional<std::string_view> payload_of(const ExportBody& body, const OtlpTarget& target, std::string& made) {
  std::string_view message = body.bytes;
  if (target.protocol == OtlpProtocol::http_json) {
    auto json = otlp_json(body);
    if (!json) return std::nullopt;
    message = made = std::move(*json);
  }
  if (target.gzip) message = made = gzipped(message, kGzipLevel);
  if (target.protocol != OtlpProtocol::grpc) return message;
  std::string frame(1, target.gzip ? '\1' : '\0');
  for (const unsigned shift : {24U, 16U, 8U, 0U}) frame += static_cast<char>(message.size() >> shift & 0xffU);
  return made = frame.append(message);
}

// No answer that counts.
ReceiverAnswer failed_answer(const Handle& handle, std::optional<CURLcode> result, std::size_t bytes,
                             OtlpProtocol protocol, const Exchange& exchange) {
  const bool is_grpc = protocol == OtlpProtocol::grpc;
  curl_off_t pretransfer = 0, uploaded = 0;
  curl_easy_getinfo(handle.easy.get(), CURLINFO_PRETRANSFER_TIME_T, &pretransfer);
  curl_easy_getinfo(handle.easy.get(), CURLINFO_SIZE_UPLOAD_T, &uploaded);
  long connections = 0;  // that were made for this request
  curl_easy_getinfo(handle.easy.get(), CURLINFO_NUM_CONNECTS, &connections);
  // A server that does not know HTTP/2 closes a connection at once.
  const bool is_closed = result == CURLE_GOT_NOTHING || result == CURLE_HTTP2 ||
                         (connections > 0 && (result == CURLE_SEND_ERROR || result == CURLE_RECV_ERROR));
  const bool is_incomplete = uploaded > 0 && static_cast<std::size_t>(uploaded) < bytes;
  ReceiverAnswer answer;  // may be sent again
  // Without a connection, nothing was sent. A part of a body cannot be processed, because its length is announced.
  answer.may_have_arrived = pretransfer > 0 && !is_incomplete;
  if (exchange.is_not_http(protocol)) {
    answer.text = "the answer is not HTTP";
    if (exchange.is_http2()) {
      answer.may_have_arrived = false;
      answer.text += ": perhaps this port takes gRPC: use --protocol grpc, or the port for HTTP (4318)";
    }
  } else if (!result) {
    answer.text = "no answer before the end";
  } else if (*result == CURLE_SEND_FAIL_REWIND) {  // libcurl's text is about sending again
    answer.text = "the receiver closed the connection";
  } else {
    answer.text = printable(handle.error[0] != '\0' ? handle.error.data() : curl_easy_strerror(*result));
    if (*result == CURLE_PEER_FAILED_VERIFICATION) answer.text += ": name its authority with --certificate";
    if (*result == CURLE_SSL_CONNECT_ERROR && answer.text.find("wrong version") != std::string::npos) {
      answer.text += ": perhaps the port does not use TLS";
    }
    if (is_grpc && *result == CURLE_HTTP2_STREAM) {
      answer.text += ": perhaps a proxy refused the request";
    } else if (is_grpc && is_closed && !handle.has_answered) {
      answer.text += ": perhaps this port takes HTTP: use --protocol http/protobuf, or the port for gRPC (4317)";
    }
  }
  return answer;
}

ReceiverAnswer received_answer(const Handle& handle, const OtlpTarget& target, Exchange& exchange,
                               const ExportBody& body) {
  HttpAnswer& received = exchange.answer.http;
  curl_off_t seconds = 0;
  curl_easy_getinfo(handle.easy.get(), CURLINFO_RETRY_AFTER, &seconds);
  constexpr curl_off_t kMostSeconds = 86'400;
  if (exchange.asks_for_ages) seconds = kMostSeconds;
  received.retry_after = std::chrono::seconds(std::clamp<curl_off_t>(seconds, 0, kMostSeconds));
  return target.protocol == OtlpProtocol::grpc ? classify(exchange.answer, body) : classify(received, body);
}

// A receiver may repeat a secret header in its message, and libcurl the password of a proxy.
std::string without_secrets(std::string text, const OtlpTarget& target) {
  for (std::size_t at = text.find("://"); at != std::string::npos; at = text.find("://", at + 3)) {
    const std::size_t end = text.find_first_of(" \t'\"/", at + 3);
    const std::size_t host = std::string_view(text).substr(0, end).rfind('@');
    if (host != std::string::npos && host > at) text.replace(at + 3, host - at - 3, "***");
  }
  constexpr std::size_t kShortest = 4;  // of a word that is hidden
  for (const auto& header : target.headers) {
    std::string_view value = header.second;
    while (!value.empty()) {
      const std::string_view word = value.substr(0, value.find(' '));
      value.remove_prefix(std::min(word.size() + 1, value.size()));
      if (word.size() < kShortest) continue;
      for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at)) {
        text.replace(at, word.size(), "***");
        at += 3;
      }
    }
  }
  return text;
}

class CurlTransport : public Transport {
 public:
  CurlTransport(OtlpSettings settings, std::string version, HeaderRenewal renewal)
      : settings_(std::move(settings)), agent_(std::move(version)), renewal_(std::move(renewal)) {
    static const CURLcode initialized = curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_.reset(initialized == CURLE_OK ? curl_multi_init() : nullptr);
    if (!multi_) throw Failure("libcurl cannot be initialized");
    for (std::size_t i = 0; i < kSignals; ++i) {
      prepare(handles_[i], settings_.targets[i]);
      names_[i] = printable_url(settings_.targets[i].url);
    }
  }

  ReceiverAnswer post(const ExportBody& body, const MovableDeadline& until) override;
  [[nodiscard]] std::string name(Signal signal) const override { return names_[static_cast<std::size_t>(signal)]; }
  void wake() override { curl_multi_wakeup(multi_.get()); }

 private:
  void prepare(Handle& handle, const OtlpTarget& target);
  void set_headers(Handle& handle, const OtlpTarget& target);
  bool renew_headers();
  ReceiverAnswer post_once(const ExportBody& body, const MovableDeadline& until);
  std::optional<CURLcode> perform(CURL* easy, const MovableDeadline& until);
  std::optional<CURLcode> send(Handle& handle, const OtlpTarget& target, std::string_view payload, Exchange& exchange,
                               const MovableDeadline& until);

  OtlpSettings settings_;
  const std::string agent_;
  const HeaderRenewal renewal_;
  std::array<std::string, kSignals> names_;
  std::unique_ptr<CURLM, FreeBy<curl_multi_cleanup>> multi_;
  std::array<Handle, kSignals> handles_;  // after multi_, which must outlive them
};

// Between requests.
void CurlTransport::set_headers(Handle& handle, const OtlpTarget& target) {
  const bool is_grpc = target.protocol == OtlpProtocol::grpc;
  HeaderList headers;
  const char* const type = is_grpc                                      ? "application/grpc"
                           : target.protocol == OtlpProtocol::http_json ? "application/json"
                                                                        : "application/x-protobuf";
  append_header(headers, std::string("Content-Type: ") + type);
  append_header(headers, "User-Agent: OTel-OTLP-Exporter-nopspan/" + agent_);
  append_header(headers, "Expect:");  // do not wait for a "100 Continue"
  append_header(headers, "Accept:");
  if (is_grpc) {
    append_header(headers, "TE: trailers");
    const auto timeout = std::min<std::int64_t>(target.timeout.count(), 99'999'999);
    if (timeout > 0) append_header(headers, "grpc-timeout: " + std::to_string(timeout) + "m");
  }
  if (target.gzip) append_header(headers, is_grpc ? "grpc-encoding: gzip" : "Content-Encoding: gzip");
  for (const auto& [name, value] : target.headers) {
    std::string line = name;
    line += value.empty() ? ";" : ": ";  // libcurl's form of an empty one
    append_header(headers, line += value);
  }
  curl_easy_setopt(handle.easy.get(), CURLOPT_HTTPHEADER, headers.get());
  handle.headers = std::move(headers);
}

bool CurlTransport::renew_headers() {
  const auto headers = renewal_ ? renewal_() : std::nullopt;
  if (!headers) return false;
  for (std::size_t i = 0; i < kSignals; ++i) {
    settings_.targets[i].headers = *headers;
    set_headers(handles_[i], settings_.targets[i]);
  }
  return true;
}

void CurlTransport::prepare(Handle& handle, const OtlpTarget& target) {
  handle.easy.reset(curl_easy_init());
  CURL* const easy = handle.easy.get();
  if (easy == nullptr) throw Failure("libcurl cannot be initialized");
  const bool is_grpc = target.protocol == OtlpProtocol::grpc, is_secure = target.url.starts_with("https");
  set_headers(handle, target);
  curl_easy_setopt(easy, CURLOPT_URL, target.url.c_str());
  curl_easy_setopt(easy, CURLOPT_POST, 1L);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  // The body comes from a function that cannot be rewound. If libcurl gave it to a kept connection that then closed,
  // libcurl must not send it again by itself, because nobody would count it as resent.
  curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
  curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10U);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, handle.error.data());
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // do not wait for a name server at the end
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!target.certificate.empty()) {
    curl_easy_setopt(easy, CURLOPT_CAINFO, target.certificate.c_str());
    curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);       // libcurl would trust the system's authorities too
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);  // the file may be replaced
  }
  if (!target.client_certificate.empty()) {
    curl_easy_setopt(easy, CURLOPT_SSLCERT, target.client_certificate.c_str());
    curl_easy_setopt(easy, CURLOPT_SSLKEY, target.client_key.c_str());
  }
  if (!is_grpc) {
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 1L);  // to see what other servers answer
    return;
  }
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                   static_cast<long>(is_secure ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE));
  curl_easy_setopt(easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
  // Before 8.0, the second request on a kept cleartext connection of HTTP/2 failed (curl's issue 10634).
  const bool can_reuse = is_secure || curl_version_info(CURLVERSION_NOW)->version_num >= 0x080000;
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, can_reuse ? 0L : 1L);
}

// Returns nothing if `until` passed first.
std::optional<CURLcode> CurlTransport::perform(CURL* easy, const MovableDeadline& until) {
  using Milliseconds = std::chrono::milliseconds;
  curl_multi_add_handle(multi_.get(), easy);
  std::optional<CURLcode> result;
  while (true) {
    int running = 0;
    const CURLMcode performed = curl_multi_perform(multi_.get(), &running);
    int left = 0;
    while (const CURLMsg* const message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg == CURLMSG_DONE) result = message->data.result;
    }
    if (result) break;
    if (performed != CURLM_OK || running == 0) {
      result = CURLE_FAILED_INIT;
      break;
    }
    const auto now = MovableDeadline::Clock::now();
    if (now >= until.get()) break;
    const auto pause = std::min<MovableDeadline::Clock::duration>(until.get() - now, kPollPause);
    curl_multi_poll(multi_.get(), nullptr, 0, static_cast<int>(std::chrono::ceil<Milliseconds>(pause).count()),
                    nullptr);
  }
  curl_multi_remove_handle(multi_.get(), easy);
  return result;
}

std::optional<CURLcode> CurlTransport::send(Handle& handle, const OtlpTarget& target, std::string_view payload,
                                            Exchange& exchange, const MovableDeadline& until) {
  CURL* const easy = handle.easy.get();
  exchange.unsent = payload;
  handle.error[0] = '\0';
  curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(payload.size()));
  curl_easy_setopt(easy, CURLOPT_READDATA, &exchange);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(target.timeout.count()));
  const std::optional<CURLcode> result = perform(easy, until);
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &exchange.answer.http.status);
  return result;
}

ReceiverAnswer CurlTransport::post(const ExportBody& body, const MovableDeadline& until) {
  renew_headers();
  ReceiverAnswer answer = post_once(body, until);
  // A token may have been renewed meanwhile.
  if (answer.may_be_mended && renew_headers()) answer = post_once(body, until);
  return answer;
}

ReceiverAnswer CurlTransport::post_once(const ExportBody& body, const MovableDeadline& until) {
  const auto index = static_cast<std::size_t>(body.signal);
  const OtlpTarget& target = settings_.targets[index];
  Handle& handle = handles_[index];
  std::string made;
  const auto payload = payload_of(body, target, made);
  if (!payload) {
    return {.kind = ReceiverAnswer::Kind::not_encodable, .text = "the request cannot be converted to JSON"};
  }
  Exchange exchange;
  const std::optional<CURLcode> result = send(handle, target, *payload, exchange, until);
  ReceiverAnswer answer;
  if (exchange.has_answer(result, target.protocol)) {
    handle.has_answered = true;
    answer = received_answer(handle, target, exchange, body);
  } else {
    answer = failed_answer(handle, result, payload->size(), target.protocol, exchange);
    if (target.protocol == OtlpProtocol::grpc && result == CURLE_HTTP2_STREAM) {
      // A proxy may answer before it has read a large request, and libcurl then loses the answer. A request without a
      // body cannot be answered too early. Other receivers find it malformed.
      Exchange empty;
      send(handle, target, "", empty, until);
      if (empty.answer.http.status >= 300) {
        // This answer is not about what has become of the first request.
        const bool may_have_arrived = answer.may_have_arrived;
        answer = received_answer(handle, target, empty, body);
        answer.may_have_arrived |= may_have_arrived;
      } else {
        answer.may_be_too_large = empty.answer.http.status == 200;
      }
    }
  }
  answer.text = printable(without_secrets(std::move(answer.text), target), kMostAnswerText);
  return answer;
}

}  // namespace

std::unique_ptr<Transport> make_transport(OtlpSettings settings, const std::string& version, HeaderRenewal renewal) {
  return std::make_unique<CurlTransport>(std::move(settings), version, std::move(renewal));
}

}  // namespace nopspan::collector
