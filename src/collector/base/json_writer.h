// SPDX-License-Identifier: Apache-2.0
// Writes JSON without a tree of values in memory, for commands that print hundreds of thousands of objects per second.
#pragma once

#include "base/byte_buffer.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::collector {

// The bytes are those of nlohmann::ordered_json::dump() without indentation, which replaces bytes that are not UTF-8
// by U+FFFD. The caller calls the functions in a valid order, and gives no key twice.
class JsonWriter {
 public:
  JsonWriter() = default;
  JsonWriter(const JsonWriter&) = delete;
  JsonWriter& operator=(const JsonWriter&) = delete;

  // The text so far. Valid until the next call.
  [[nodiscard]] std::string_view text() const { return bytes_.view(); }
  void clear();

  void begin_object() { begin('{'); }
  void end_object() { end('}'); }
  void begin_array() { begin('['); }
  void end_array() { end(']'); }

  // A literal that needs no escapes. The next call writes its value.
  template <std::size_t N>
  void key(const char (&literal)[N]) {
    char* at = separate(N + 3);
    *at++ = '"';
    std::memcpy(at, literal, N - 1);
    at += N - 1;
    *at++ = '"';
    *at++ = ':';
    end_key(at);
  }
  // Any text.
  void key_text(std::string_view text);

  void text(std::string_view text);
  template <class Integer>
  void number(Integer value) {
    char* const at = separate(20);
    end_value(std::to_chars(at, at + 20, value).ptr);
  }
  // 16 hexadecimal digits.
  void id(std::uint64_t id);
  // Two hexadecimal digits for each byte.
  void hex(std::string_view bytes);
  void literal(std::string_view literal);  // true, false, null
  // A line break between documents.
  void end_document();

  template <std::size_t N, class Number>
  void number(const char (&name)[N], Number value) {
    key(name);
    number(value);
  }
  template <std::size_t N>
  void text(const char (&name)[N], std::string_view value) {
    key(name);
    text(value);
  }
  template <std::size_t N>
  void text_unless_empty(const char (&name)[N], std::string_view value) {
    if (!value.empty()) text(name, value);
  }
  template <std::size_t N>
  void id(const char (&name)[N], std::uint64_t value) {
    key(name);
    id(value);
  }

 private:
  // Writes the comma before the next key or value, which has at most `bytes` bytes. Returns its place.
  char* separate(std::size_t bytes) {
    char* at = bytes_.room(bytes + 1);
    *at = ',';
    return at + (needs_comma_ ? 1 : 0);
  }
  void begin(char bracket) {
    char* at = separate(1);
    *at = bracket;
    end_key(at + 1);
  }
  void end(char bracket) {
    *bytes_.extend(1) = bracket;
    needs_comma_ = true;
  }
  // The next key or value has no comma before it.
  void end_key(const char* at) {
    bytes_.end_at(at);
    needs_comma_ = false;
  }
  void end_value(const char* at) {
    bytes_.end_at(at);
    needs_comma_ = true;
  }

  ByteBuffer bytes_;
  bool needs_comma_ = false;
};

}  // namespace nopspan::collector
