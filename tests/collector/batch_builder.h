// SPDX-License-Identifier: Apache-2.0
// Builds the bytes of a batch as the library does. A test may then damage them.
#pragma once

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

class BatchBuilder {
 public:
  // Begins an entry. The calls that follow add to it. The reference is valid until the next call.
  nopspan_entry& entry(unsigned char kind = NOPSPAN_ENTRY_SPAN) {
    begin_ = bytes_.size();
    bytes_.resize(begin_ + sizeof(nopspan_entry));
    ++count_;
    nopspan_entry& added = last();
    added = nopspan_entry{};
    added.kind = kind;
    added.fixed_size = sizeof(nopspan_entry);
    added.size = sizeof(nopspan_entry);
    return added;
  }
  nopspan_entry& last() { return *reinterpret_cast<nopspan_entry*>(bytes_.data() + begin_); }

  BatchBuilder& extra(unsigned bit, const std::vector<std::uint64_t>& words) {
    for (const std::uint64_t word : words) bytes_.append(reinterpret_cast<const char*>(&word), sizeof(word));
    last().extras |= bit;
    last().size = static_cast<unsigned>(bytes_.size() - begin_);
    return *this;
  }
  BatchBuilder& text(nopspan_text nopspan_entry::*field, std::string_view text) {
    const nopspan_text where{static_cast<unsigned short>(bytes_.size() / 8), static_cast<unsigned short>(text.size())};
    bytes_ += text;
    bytes_.resize((bytes_.size() + 7) / 8 * 8);
    last().*field = where;
    last().size = static_cast<unsigned>(bytes_.size() - begin_);
    return *this;
  }
  // A typical span.
  BatchBuilder& span(std::string_view name, std::uint64_t span_id) {
    nopspan_entry& added = entry();
    added.span_id = added.root_id = span_id;
    added.start_ns = 1000;
    added.duration_ns = 50;
    return text(&nopspan_entry::name, name);
  }

  // A step with these members. `all` is the number of members with those of further parts.
  BatchBuilder& step(std::uint64_t span_id, const std::vector<nopspan_member>& members, std::size_t all) {
    nopspan_step step{};
    step.size = offsetof(nopspan_step, reserved);
    step.kind = NOPSPAN_STEP_DECODE;
    step.number = span_id;
    step.members = static_cast<unsigned>(all);
    nopspan_entry& added = entry(NOPSPAN_ENTRY_STEP);
    set_ids(added, span_id);
    added.start_ns = 1000;
    added.duration_ns = 50;
    std::vector<std::uint64_t> words(sizeof(step) / sizeof(std::uint64_t));
    std::memcpy(words.data(), &step, sizeof(step));
    return extra(NOPSPAN_EXTRA_STEP, words).text(&nopspan_entry::name, "engine.step").with(members);
  }
  // A part of the step, after `before` members.
  BatchBuilder& part(std::uint64_t span_id, const std::vector<nopspan_member>& members, std::uint64_t before) {
    nopspan_entry& added = entry(NOPSPAN_ENTRY_MEMBERS);
    set_ids(added, span_id);
    added.start_ns = 1000;
    added.duration_ns = 50;
    return extra(NOPSPAN_EXTRA_VALUES, {0, before}).with(members);
  }
  BatchBuilder& with(const std::vector<nopspan_member>& members) {
    return text(&nopspan_entry::links,
                {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)});
  }

  [[nodiscard]] std::string_view bytes() const { return bytes_; }
  std::string& raw() { return bytes_; }
  [[nodiscard]] std::uint64_t count() const { return count_; }

 private:
  static void set_ids(nopspan_entry& entry, std::uint64_t id) {
    entry.span_id = entry.root_id = id;
    entry.trace_id[0] = static_cast<char>(id & 0x7fU);
  }

  std::string bytes_;
  std::size_t begin_ = 0;
  std::uint64_t count_ = 0;
};

}  // namespace nopspan::collector
