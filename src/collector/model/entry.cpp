// SPDX-License-Identifier: Apache-2.0
#include "model/entry.h"

#include <algorithm>
#include <iterator>

namespace nopspan::collector {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::size_t kBase64Characters = 22;

int base64_value(char c) {
  const char* const end = std::end(kAlphabet) - 1;
  const char* const found = std::find(std::begin(kAlphabet), end, c);
  return found == end ? -1 : static_cast<int>(found - std::begin(kAlphabet));
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string base64_of(const TraceId& id) {
  std::string text;
  text.reserve(kBase64Characters);
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (const unsigned char byte : id.bytes) {
    bits = (bits << 8U) | byte;
    for (held += 8; held >= 6; held -= 6) text += kAlphabet[(bits >> (held - 6)) & 63U];
  }
  return text += kAlphabet[(bits << (6 - held)) & 63U];
}

// Returns false unless base64_of() could have written the text.
bool read_base64(std::string_view text, TraceId& id) {
  if (text.size() != kBase64Characters) return false;
  std::uint32_t bits = 0;
  unsigned held = 0;
  unsigned char* out = id.bytes;
  for (const char c : text) {
    const int value = base64_value(c);
    if (value < 0) return false;
    bits = (bits << 6U) | static_cast<std::uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      *out++ = static_cast<unsigned char>(bits >> held);
    }
  }
  return (bits & ((1U << held) - 1)) == 0 && !id.empty();
}

bool read_hex(std::string_view text, TraceId& id) {
  if (text.size() != 2 * sizeof(id.bytes)) return false;
  for (std::size_t i = 0; i < sizeof(id.bytes); ++i) {
    const int high = hex_value(text[2 * i]);
    const int low = hex_value(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    id.bytes[i] = static_cast<unsigned char>((high << 4) | low);
  }
  return !id.empty();
}

// 128-bit FNV-1a, big-endian, as the ABI specifies for ids of another form.
TraceId hash_of(std::string_view text) {
  __extension__ using Wide = unsigned __int128;
  const Wide prime = (Wide{1} << 88U) | 0x13bU;
  Wide hash = (Wide{0x6c62272e07bb0142U} << 64U) | 0x62b821756295c58dU;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * prime;
  if (hash == 0) hash = 1;
  TraceId id;
  for (std::size_t i = 0; i < sizeof(id.bytes); ++i) {
    id.bytes[sizeof(id.bytes) - 1 - i] = static_cast<unsigned char>(hash >> (8 * i));
  }
  return id;
}

}  // namespace

bool is_same_process(const Process& a, const Process& b) {
  return &a == &b || (a.pid == b.pid && a.start_ticks == b.start_ticks && a.host == b.host);
}

ProcessPointer with_comm(const ProcessPointer& process, std::string_view comm) {
  auto named = std::make_shared<Process>(*process);
  named->comm = comm;
  return named;
}

bool TraceId::empty() const {
  return std::all_of(std::begin(bytes), std::end(bytes), [](unsigned char byte) { return byte == 0; });
}

TraceId trace_id_of(std::string_view request) {
  TraceId id;
  if (request.empty()) return id;
  // A traceparent: 00-<trace id>-<span id>-<flags>.
  if (request.size() >= 55 && request[2] == '-' && request[35] == '-' && read_hex(request.substr(3, 32), id)) return id;
  if (read_base64(request, id) || read_hex(request, id)) return id;
  return hash_of(request);
}

std::string request_id_of(const Entry& entry) {
  if (!entry.foreign_id.empty()) return std::string(entry.foreign_id);
  return entry.trace_id.empty() ? std::string() : base64_of(entry.trace_id);
}

}  // namespace nopspan::collector
