// SPDX-License-Identifier: Apache-2.0
#include "base/json_writer.h"

#include "base/utf8.h"

namespace nopspan::collector {
namespace {

constexpr char kHex[] = "0123456789abcdef";

constexpr std::uint64_t kEach = 0x0101010101010101U, kHighBits = 0x80 * kEach;

// Whether one of eight bytes is a control character, '"' or '\'. Above such a byte, bits of `found` may be wrong.
bool needs_escapes(std::uint64_t word) {
  const std::uint64_t quotes = word ^ ('"' * kEach), backslashes = word ^ ('\\' * kEach);
  const std::uint64_t found =
      ((word - 0x20 * kEach) & ~word) | ((quotes - kEach) & ~quotes) | ((backslashes - kEach) & ~backslashes);
  return (found & kHighBits) != 0;
}

char* put_escaped(char* at, char byte) {
  constexpr std::string_view kControls = "\b\f\n\r\t", kLetters = "bfnrt";
  const auto code = static_cast<unsigned char>(byte);
  const bool is_control = code < 0x20;
  if (is_control || byte == '"' || byte == '\\') *at++ = '\\';
  if (!is_control) {
    *at++ = byte;
    return at;
  }
  if (const std::size_t place = kControls.find(byte); place != std::string_view::npos) {
    *at++ = kLetters[place];
    return at;
  }
  for (const char each : std::string_view("u00")) *at++ = each;
  *at++ = kHex[code >> 4U];
  *at++ = kHex[code & 15U];
  return at;
}

}  // namespace

void JsonWriter::clear() {
  constexpr std::size_t kMostKept = 1U << 20U;
  if (bytes_.capacity() > kMostKept) bytes_ = {};
  bytes_.clear();
  needs_comma_ = false;
}

void JsonWriter::key_text(std::string_view text) {
  this->text(text);
  *bytes_.extend(1) = ':';
  needs_comma_ = false;
}

void JsonWriter::text(std::string_view text) {
  if (!is_utf8(text)) return this->text(replaced_utf8(text));
  constexpr std::size_t kLongestEscape = 6;
  char* at = separate(kLongestEscape * text.size() + 2);
  *at++ = '"';
  while (text.size() >= sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, text.data(), sizeof(word));
    if (needs_escapes(word)) {
      for (std::size_t i = 0; i < sizeof(word); ++i) at = put_escaped(at, text[i]);
    } else {
      std::memcpy(at, &word, sizeof(word));
      at += sizeof(word);
    }
    text.remove_prefix(sizeof(word));
  }
  for (const char byte : text) at = put_escaped(at, byte);
  *at++ = '"';
  end_value(at);
}

void JsonWriter::id(std::uint64_t id) {
  char* at = separate(18);
  *at++ = '"';
  for (unsigned shift = 64; shift > 0;) *at++ = kHex[id >> (shift -= 4) & 15U];
  *at++ = '"';
  end_value(at);
}

void JsonWriter::hex(std::string_view bytes) {
  char* at = separate(2 * bytes.size() + 2);
  *at++ = '"';
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    *at++ = kHex[byte >> 4U];
    *at++ = kHex[byte & 15U];
  }
  *at++ = '"';
  end_value(at);
}

void JsonWriter::literal(std::string_view literal) {
  char* const at = separate(literal.size());
  std::memcpy(at, literal.data(), literal.size());
  end_value(at + literal.size());
}

void JsonWriter::end_document() {
  *bytes_.extend(1) = '\n';
  needs_comma_ = false;
}

}  // namespace nopspan::collector
