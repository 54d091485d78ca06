// SPDX-License-Identifier: Apache-2.0
// Builds the bytes of a batch as the library does, but each entry has a form and a request of its own. A test may
// damage them.
#pragma once

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

class BatchBuilder {
 public:
  // Begins an entry. The calls that follow add to it. What these structs have is written, except sizes and places that
  // are 0: these are filled in. The parts of the form are those that were added, changed by `xor_parts`.
  nopspan_entry& entry(unsigned char kind = NOPSPAN_ENTRY_SPAN) {
    write();
    last_ = {};
    last_.entry.kind = last_.form.entry_kind = kind;
    last_.form.kind = NOPSPAN_SHARED_FORM;
    last_.request.kind = NOPSPAN_SHARED_REQUEST;
    has_last_ = true;
    ++count_;
    return last_.entry;
  }
  nopspan_entry& last() { return last_.entry; }
  nopspan_form& form() { return last_.form; }
  nopspan_request& request() { return last_.request; }
  std::string& words() { return last_.words; }
  std::uint32_t& xor_parts() { return last_.xor_parts; }

  // Parts of words, in their order.
  BatchBuilder& part(unsigned bit, const std::vector<std::uint64_t>& words) {
    for (const std::uint64_t word : words) last_.words.append(reinterpret_cast<const char*>(&word), sizeof(word));
    last_.parts |= bit;
    return *this;
  }
  BatchBuilder& text(nopspan_text nopspan_form::*field, std::string_view text) {
    last_.form_texts.emplace_back(field, text);
    return *this;
  }
  BatchBuilder& text(nopspan_text nopspan_request::*field, std::string_view text) {
    last_.request_texts.emplace_back(field, text);
    return *this;
  }
  // NOPSPAN_PART_*.
  BatchBuilder& text(unsigned bit, std::string_view text) {
    last_.texts[bit] = text;
    return *this;
  }
  // A text that is somewhere else.
  BatchBuilder& text_at(unsigned bit, nopspan_text where) {
    last_.texts[bit];
    last_.places[bit] = where;
    return *this;
  }
  // Attributes of an entry without other texts.
  BatchBuilder& attributes(std::string_view bytes) {
    last_.attributes = bytes;
    return *this;
  }

  // A typical span.
  BatchBuilder& span(std::string_view name, std::uint64_t span_id) {
    nopspan_entry& added = entry();
    added.span_id = request().root_id = span_id;
    request().start_ns = 1000;
    added.duration_ns = 50;
    return text(&nopspan_form::name, name);
  }

  // A step with these members. `all` is the number of members with those of further parts.
  BatchBuilder& step(std::uint64_t span_id, const std::vector<nopspan_member>& members, std::size_t all) {
    nopspan_step step{};
    step.size = offsetof(nopspan_step, reserved);
    step.kind = NOPSPAN_STEP_DECODE;
    step.number = span_id;
    step.members = static_cast<unsigned>(all);
    entry(NOPSPAN_ENTRY_STEP);
    set_ids(span_id);
    std::vector<std::uint64_t> words(sizeof(step) / sizeof(std::uint64_t));
    std::memcpy(words.data(), &step, sizeof(step));
    return part(NOPSPAN_PART_STEP, words).text(&nopspan_form::name, "engine.step").with(members);
  }
  // A part of the step, after `before` members.
  BatchBuilder& members(std::uint64_t span_id, const std::vector<nopspan_member>& members, std::uint64_t before) {
    entry(NOPSPAN_ENTRY_MEMBERS);
    set_ids(span_id);
    return part(NOPSPAN_PART_VALUES, {0, before}).with(members);
  }
  BatchBuilder& with(const std::vector<nopspan_member>& members) {
    return text(NOPSPAN_PART_LINKS,
                {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)});
  }

  [[nodiscard]] std::string_view bytes() {
    write();
    return bytes_;
  }
  std::string& raw() {
    write();
    return bytes_;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  // Where the last one that was written is.
  [[nodiscard]] std::size_t entry_at() {
    write();
    return entry_at_;
  }
  nopspan_form written_form() {
    write();
    nopspan_form form;
    std::memcpy(&form, bytes_.data() + form_at_, sizeof(form));
    return form;
  }
  // A text of the last entry that was written.
  nopspan_text written(unsigned bit) { return write(), written_[bit]; }

 private:
  struct Last {
    nopspan_entry entry{};
    nopspan_form form{};
    nopspan_request request{};
    std::uint32_t parts = 0, xor_parts = 0;
    std::string words;
    std::vector<std::pair<nopspan_text nopspan_form::*, std::string>> form_texts;
    std::vector<std::pair<nopspan_text nopspan_request::*, std::string>> request_texts;
    std::map<unsigned, std::string> texts;  // in the order of their bits
    std::map<unsigned, nopspan_text> places;
    std::string attributes;
  };

  void set_ids(std::uint64_t id) {
    last_.entry.span_id = last_.request.root_id = id;
    last_.request.trace_id[0] = static_cast<char>(id & 0x7fU);
    last_.request.start_ns = 1000;
    last_.entry.duration_ns = 50;
  }
  void pad() { bytes_.resize((bytes_.size() + 7) / 8 * 8); }
  nopspan_text append(std::string_view text) {
    const nopspan_text where{static_cast<unsigned short>(bytes_.size() / 8), static_cast<unsigned short>(text.size())};
    bytes_ += text;
    pad();
    return where;
  }
  template <class Record>
  void replace(std::size_t at, Record& record, std::size_t end) {
    if (record.size == 0) record.size = static_cast<unsigned short>(end - at);
    std::memcpy(bytes_.data() + at, &record, sizeof(record));
  }
  template <class Record, class Texts>
  std::size_t append_shared(Record& record, const Texts& texts) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + sizeof(record));
    for (const auto& [field, text] : texts) record.*field = append(text);
    replace(at, record, bytes_.size());
    return at;
  }

  void write() {
    if (!std::exchange(has_last_, false)) return;
    Last& last = last_;
    for (const auto& each : last.texts) last.parts |= each.first;
    last.form.parts = last.parts ^ last.xor_parts;
    const std::size_t request_at = append_shared(last.request, last.request_texts);
    form_at_ = append_shared(last.form, last.form_texts);
    entry_at_ = bytes_.size();
    bytes_.resize(entry_at_ + sizeof(nopspan_entry));
    bytes_ += last.words;
    std::size_t place_at = bytes_.size();
    bytes_.resize(place_at + (last.texts.size() * sizeof(nopspan_text) + 7) / 8 * 8);
    written_.clear();
    for (const auto& [bit, text] : last.texts) {
      const auto given = last.places.find(bit);
      const nopspan_text where = given != last.places.end() ? given->second : append(text);
      std::memcpy(bytes_.data() + place_at, &where, sizeof(where));
      place_at += sizeof(where);
      written_[bit] = where;
    }
    bytes_ += last.attributes;
    if (last.entry.form == 0) last.entry.form = static_cast<unsigned short>(form_at_ / 8);
    if (last.entry.request == 0) last.entry.request = static_cast<unsigned short>(request_at / 8);
    replace(entry_at_, last.entry, bytes_.size());
    pad();
  }

  std::string bytes_;
  std::size_t form_at_ = 0, entry_at_ = 0;
  std::map<unsigned, nopspan_text> written_;
  Last last_;
  bool has_last_ = false;
  std::uint64_t count_ = 0;
};

}  // namespace nopspan::collector
