// SPDX-License-Identifier: Apache-2.0
// A growing buffer for messages of many short parts. Appending to std::string calls two functions for each part.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

namespace nopspan::collector {

class ByteBuffer {
 public:
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  [[nodiscard]] std::string_view view() const { return {bytes_.get(), size_}; }
  [[nodiscard]] char* at(std::size_t offset) { return bytes_.get() + offset; }
  void clear() { size_ = 0; }

  // Appends `bytes` bytes with any content, and returns the place of the first one. It is valid until the next call.
  char* extend(std::size_t bytes) {
    if (capacity_ - size_ < bytes) grow(bytes);
    return bytes_.get() + std::exchange(size_, size_ + bytes);
  }
  void shrink(std::size_t size) { size_ = size; }
  void remove_front(std::size_t bytes) {
    if (bytes == 0) return;
    size_ -= bytes;
    std::memmove(bytes_.get(), bytes_.get() + bytes, size_);
  }

  // Makes room for `most` more bytes, and returns their place. The caller writes there, and calls end_at() with the end
  // of what it wrote.
  char* room(std::size_t most) {
    if (capacity_ - size_ < most) grow(most);
    return bytes_.get() + size_;
  }
  void end_at(const char* end) { size_ = static_cast<std::size_t>(end - bytes_.get()); }

  void append(const char* from, std::size_t bytes) { copy(extend(bytes), from, bytes); }
  void append(std::string_view bytes) { append(bytes.data(), bytes.size()); }

  // memcpy() for parts that are mostly short. Returns the end of the copy.
  static char* copy(char* to, const char* from, std::size_t bytes) {
    if (bytes > 32) {
      std::memcpy(to, from, bytes);
    } else if (bytes >= 16) {
      copy_ends<Pair>(to, from, bytes);
    } else if (bytes >= 8) {
      copy_ends<std::uint64_t>(to, from, bytes);
    } else if (bytes >= 4) {
      copy_ends<std::uint32_t>(to, from, bytes);
    } else {
      for (std::size_t i = 0; i < bytes; ++i) to[i] = from[i];
    }
    return to + bytes;
  }

 private:
  struct Pair {
    std::uint64_t words[2];
  };
  // The first and the last bytes overlap.
  template <class Word>
  static void copy_ends(char* to, const char* from, std::size_t bytes) {
    Word first, last;
    std::memcpy(&first, from, sizeof(first));
    std::memcpy(&last, from + bytes - sizeof(last), sizeof(last));
    std::memcpy(to, &first, sizeof(first));
    std::memcpy(to + bytes - sizeof(last), &last, sizeof(last));
  }
  void grow(std::size_t bytes) {
    constexpr std::size_t kFirst = 4096;
    const std::size_t capacity = std::max({kFirst, 2 * capacity_, size_ + bytes});
    auto grown = std::make_unique_for_overwrite<char[]>(capacity);
    if (size_ > 0) std::memcpy(grown.get(), bytes_.get(), size_);
    bytes_ = std::move(grown);
    capacity_ = capacity;
  }

  std::unique_ptr<char[]> bytes_;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace nopspan::collector
