// SPDX-License-Identifier: Apache-2.0
#include "state/baggage.h"

#include "base/clean_text.h"
#include "base/counters.h"
#include "state/header_store.h"
#include "state/identity.h"
#include "state/labels.h"
#include "thread/thread_state.h"

#include <algorithm>
#include <cstring>

namespace nopspan::detail {
namespace {

constexpr std::size_t kMaxBaggageItems = 64;
// For each label a comma, the key, "=", and the value with each byte as "%XX".
constexpr std::size_t kLabelRoom = kTravellingLabels * (kMaxNameBytes + 2 + 3 * kMaxNameBytes);
static_assert(kLabelRoom + sizeof(StoredBaggage::received) + kMaxBaggageBytes == kBaggageRoom);

// A character of a value, or of properties.
bool is_octet(char c) { return c > 0x20 && c < 0x7f && c != '"' && c != ',' && c != ';' && c != '\\'; }

// A token of RFC 7230.
bool is_token(std::string_view key) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !key.empty() && std::all_of(key.begin(), key.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

struct BaggageItem {
  std::string_view text;  // all of it
  std::string_view key;
  std::string_view value;
  bool has_properties = false;
};

// False if it is malformed.
bool parse_item(std::string_view text, BaggageItem& item) {
  const std::size_t equals = text.find('=');
  const std::size_t semicolon = text.find(';');
  if (equals == std::string_view::npos || semicolon < equals) return false;
  item.text = text;
  item.key = trim(text.substr(0, equals));
  item.value = trim(text.substr(equals + 1, semicolon - equals - 1));
  item.has_properties = semicolon != std::string_view::npos;
  const std::string_view properties = item.has_properties ? text.substr(semicolon) : std::string_view();
  return is_token(item.key) && std::all_of(item.value.begin(), item.value.end(), is_octet) &&
         std::all_of(properties.begin(), properties.end(),
                     [](char c) { return is_octet(c) || c == ';' || c == ' ' || c == '\t'; });
}

// Calls each(item) for the items of a header that are not empty, as trimmed text.
template <class Each>
void for_each_item(std::string_view header, const Each& each) {
  while (!header.empty()) {
    const std::size_t comma = header.find(',');
    const std::string_view item = trim(header.substr(0, comma));
    if (!item.empty()) each(item);
    header.remove_prefix(comma == std::string_view::npos ? header.size() : comma + 1);
  }
}

// Writes the percent-decoded text to `out`, which has room for it, and returns the length.
std::size_t decode(std::string_view text, char* out) noexcept {
  std::size_t size = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = 0;
    if (text[i] == '%' && i + 2 < text.size() && decode_hex(text.substr(i + 1, 2), &byte, 1, true)) {
      out[size++] = static_cast<char>(byte);
      i += 2;
    } else {
      out[size++] = text[i];
    }
  }
  return size;
}

// Makes the value of an item a label, unless the table of labels is full. True if the label says all.
bool set_label(const BaggageItem& item, std::uint16_t& number) noexcept {
  char value[4 * kMaxNameBytes];  // more than a label may have: a longer value is truncated in any case
  const std::string_view decoded(value, decode(item.value.substr(0, sizeof(value)), value));
  number = intern_label(decoded, LabelOf::other);
  if (number == kOverflowLabel) number = kNoLabel;
  return number != kNoLabel && !item.has_properties && label(number).view() == decoded;
}

// A header that is being written: items joined by commas.
class BaggageWriter {
 public:
  explicit BaggageWriter(char* out) noexcept : out_(out) {}

  // Counts the item as dropped if a limit is reached.
  void add(std::string_view first, std::string_view second = {}) noexcept {
    const std::size_t comma = size_ == 0 ? 0 : 1;
    if (items_ == kMaxBaggageItems || size_ + comma + first.size() + second.size() > kMaxBaggageBytes) {
      count(counters.baggage_dropped);
      return;
    }
    ++items_;
    if (comma != 0) out_[size_++] = ',';
    for (const std::string_view part : {first, second}) {
      if (part.empty()) continue;
      std::memmove(out_ + size_, part.data(), part.size());
      size_ += part.size();
    }
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  char* out_;
  std::size_t size_ = 0;
  std::size_t items_ = 0;
};

void add_label(BaggageWriter& writer, std::string_view key, std::string_view value) noexcept {
  char text[3 * kMaxNameBytes];
  std::size_t size = 0;
  for (const char c : value) {
    if (is_octet(c) && c != '%') {
      text[size++] = c;
      continue;
    }
    constexpr char kDigits[] = "0123456789ABCDEF";
    const auto byte = static_cast<unsigned char>(c);
    text[size++] = '%';
    text[size++] = kDigits[byte >> 4U];
    text[size++] = kDigits[byte & 15U];
  }
  char start[kMaxNameBytes + 1];
  std::memcpy(start, key.data(), key.size());
  start[key.size()] = '=';
  writer.add({start, key.size() + 1}, {text, size});
}

std::string_view key_of(std::string_view item) noexcept { return trim(item.substr(0, item.find('='))); }

std::size_t travelling_label(std::string_view key) noexcept {
  const std::size_t place = find_label(key, false);
  return place < ContextAccess::tenant ? kNone : place;
}

}  // namespace

void read_baggage(const Text* lines, std::size_t count_of_lines, ContextHead& context, StoredBaggage& stored) noexcept {
  BaggageWriter writer(stored.items);
  bool seen[ContextHead::kLabels] = {};
  for (std::size_t i = 0; i < count_of_lines; ++i) {
    for_each_item(lines[i].view(), [&](std::string_view text) {
      BaggageItem item;
      if (!parse_item(text, item)) {
        count(counters.baggage_dropped);
        return;
      }
      const std::size_t place = travelling_label(item.key);
      if (place != kNone) {
        if (seen[place]) {
          count(counters.baggage_dropped);
          return;
        }
        seen[place] = true;
        std::uint16_t& number = context.labels[place];
        if (set_label(item, number)) return;
        stored.received[place - ContextAccess::tenant] = number;
      }
      writer.add(text);
    });
  }
  stored.size = writer.size();
}

std::size_t write_baggage(const Context& context, char* out) noexcept {
  const ContextHead& head = ContextAccess::head(context);
  if (head.headers == 0 && !has_labels(head)) return 0;
  const InsideLibrary inside;
  // The stored items are moved to the front of the buffer, behind the labels, because a second buffer would take
  // much stack.
  char* const stored = out + kLabelRoom;
  std::uint16_t received[kTravellingLabels] = {};
  const std::size_t loaded = load_baggage(head.headers, stored, kBaggageRoom - kLabelRoom);
  if (loaded != 0) std::memcpy(received, stored, sizeof(received));
  const std::string_view items(stored + sizeof(received), loaded == 0 ? 0 : loaded - sizeof(received));

  // The labels for which a stored item is sent.
  bool is_stored[ContextHead::kLabels] = {};
  for_each_item(items, [&](std::string_view text) {
    const std::size_t place = travelling_label(key_of(text));
    if (place == kNone) return;
    is_stored[place] = head.labels[place] == received[place - ContextAccess::tenant];
  });

  BaggageWriter writer(out);
  for (std::size_t place = ContextAccess::tenant; place < ContextHead::kLabels; ++place) {
    const std::uint16_t number = head.labels[place];
    if (number == kNoLabel || number == kOverflowLabel || is_stored[place] || !is_token(travelling_key(place)))
      continue;
    add_label(writer, travelling_key(place), label(number).view());
  }
  for_each_item(items, [&](std::string_view text) {
    const std::size_t place = travelling_label(key_of(text));
    if (place == kNone || is_stored[place]) writer.add(text);
  });
  return writer.size();
}

}  // namespace nopspan::detail
