// SPDX-License-Identifier: Apache-2.0
// The wire format of protobuf: varints, words, and the fields of a message. It needs no other library, because
// nopspan::recording is built with it too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::collector {

enum class ProtobufType : std::uint8_t { varint = 0, fixed64 = 1, delimited = 2, fixed32 = 5 };

constexpr std::size_t varint_bytes(std::uint64_t value) {
  std::size_t bytes = 1;
  for (; value >= 0x80; value >>= 7U) ++bytes;
  return bytes;
}
// Writes a varint to `at` and returns its end. The caller provides the room.
inline char* put_varint(char* at, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7U) *at++ = static_cast<char>(value | 0x80U);
  *at++ = static_cast<char>(value);
  return at;
}
// Writes the bytes of a word, and returns their end. The caller provides the room.
template <class Word>
char* put_word(char* at, Word word) {
  std::memcpy(at, &word, sizeof(word));
  return at + sizeof(word);
}
// Reads a varint from the begin of `left` and removes it. Returns false if there is none of at most ten bytes and 64
// bits. Other decoders refuse longer ones.
inline bool take_varint(std::string_view& left, std::uint64_t& value, std::size_t most_bytes = 10) {
  value = 0;
  for (std::size_t i = 0; i < left.size() && i < most_bytes; ++i) {
    const auto byte = static_cast<unsigned char>(left[i]);
    if (i == 9 && byte > 1) return false;
    value |= std::uint64_t{byte & 0x7fU} << (7 * i);
    if (byte >= 0x80) continue;
    left.remove_prefix(i + 1);
    return true;
  }
  return false;
}

// Reads the fields of a message, which may be anything.
class ProtobufFields {
 public:
  explicit ProtobufFields(std::string_view message) : left_(message) {}

  // Reads a field. Returns false at the end of the message, and at the first field that is invalid.
  bool next() {
    if (left_.empty() || !is_valid_) return false;
    begin_ = left_.data();
    is_valid_ = read();
    return is_valid_;
  }
  // Whether all fields so far were valid.
  [[nodiscard]] bool is_valid() const { return is_valid_; }

  // Of the last field.
  [[nodiscard]] std::uint64_t number() const { return tag_ >> 3U; }
  [[nodiscard]] ProtobufType type() const { return static_cast<ProtobufType>(tag_ & 7U); }
  [[nodiscard]] bool is(unsigned number, ProtobufType type) const {
    return tag_ == (number << 3U | static_cast<unsigned>(type));
  }
  [[nodiscard]] std::string_view bytes() const { return bytes_; }   // of a delimited field
  [[nodiscard]] std::uint64_t integer() const { return integer_; }  // of another field
  // With its tag and its length.
  [[nodiscard]] std::string_view whole() const { return {begin_, static_cast<std::size_t>(left_.data() - begin_)}; }

 private:
  bool read() {
    constexpr std::uint64_t kMostNumber = (std::uint64_t{1} << 29U) - 1;
    constexpr std::size_t kMostBytes = 5;  // of a tag or length: decoders refuse longer ones, even of a small number
    std::uint64_t size = 0;
    if (!take_varint(left_, tag_, kMostBytes) || number() == 0 || number() > kMostNumber) return false;
    switch (type()) {
      case ProtobufType::varint:
        return take_varint(left_, integer_);
      case ProtobufType::fixed64:
        return take_word<std::uint64_t>();
      case ProtobufType::fixed32:
        return take_word<std::uint32_t>();
      case ProtobufType::delimited:
        if (!take_varint(left_, size, kMostBytes) || size > left_.size()) return false;
        bytes_ = left_.substr(0, size);
        left_.remove_prefix(size);
        return true;
    }
    return false;
  }
  template <class Word>
  bool take_word() {
    Word word;
    if (left_.size() < sizeof(word)) return false;
    std::memcpy(&word, left_.data(), sizeof(word));
    integer_ = word;
    left_.remove_prefix(sizeof(word));
    return true;
  }

  std::string_view left_, bytes_;
  const char* begin_ = nullptr;
  std::uint64_t tag_ = 0, integer_ = 0;
  bool is_valid_ = true;
};

}  // namespace nopspan::collector
