// SPDX-License-Identifier: Apache-2.0
#include "recording/entry_encoder.h"

#include "model/entry_json.h"
#include "model/sampling.h"
#include "recording/chunk_format.h"
#include "stream/batch_entries.h"
#include "stream/clock_map.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

namespace {

enum class Way { shorten, restore };

// The members of a thread's steps.
class Steps {
 public:
  void begin_step() {
    before_ = std::exchange(now_, {});
    places_.clear();
    next_ = 0;
  }
  nopspan_member changed(const nopspan_member& member, Way way) {
    nopspan_member result = member;
    // The request that follows the last one in the step before is expected.
    const std::uint64_t expected = next_ < before_.size() ? before_[next_].request : 0;
    result.request ^= expected;
    const nopspan_member& whole = way == Way::shorten ? member : result;
    nopspan_member base = take_base(whole.request);
    base.context_tokens += base.prefill_tokens + base.decode_tokens;
    change(result.prefill_tokens, base.prefill_tokens, way);
    change(result.context_tokens, base.context_tokens, way);
    change(result.decode_tokens, base.decode_tokens, way);
    change(result.drafted_tokens, base.drafted_tokens, way);
    change(result.accepted_tokens, base.accepted_tokens, way);
    change(result.flags, base.flags, way);
    now_.push_back(whole);
    return result;
  }

 private:
  template <class Number>
  static void change(Number& number, Number base, Way way) {
    number = static_cast<Number>(way == Way::shorten ? number - base : number + base);
  }
  nopspan_member take_base(std::uint64_t request) {
    if (next_ < before_.size() && before_[next_].request == request) return before_[next_++];
    if (places_.empty()) {
      for (std::size_t i = 0; i < before_.size(); ++i) places_.emplace_back(before_[i].request, i);
      std::sort(places_.begin(), places_.end());
    }
    const auto found = std::lower_bound(places_.begin(), places_.end(), std::pair(request, std::size_t{0}));
    if (found == places_.end() || found->first != request) return {};
    next_ = found->second + 1;
    return before_[found->second];
  }

  std::vector<nopspan_member> before_, now_;
  // Requests and their places in `before_`, in order; empty until it is needed. Not a hash table, because hostile
  // processes choose the requests.
  std::vector<std::pair<std::uint64_t, std::size_t>> places_;
  std::size_t next_ = 0;
};

void change_steps(std::string& payload, Way way) {
  std::map<std::pair<std::uint32_t, std::uint64_t>, Steps> threads;
  const auto change_entry = [&](std::string_view record, std::string_view batch, const RecordedBatch& of) {
    const unsigned char kind = kind_of_record(record);
    if (kind != NOPSPAN_ENTRY_STEP && kind != NOPSPAN_ENTRY_MEMBERS) return;
    Steps& steps = threads[{of.process, of.sequence_id}];
    if (kind == NOPSPAN_ENTRY_STEP) steps.begin_step();
    // Those in other records could be changed twice, or be what the next entry is read with.
    const std::string_view members = own_part(record, batch, NOPSPAN_PART_LINKS);
    if (members.empty()) return;
    char* at = payload.data() + (members.data() - payload.data());
    for (std::size_t i = 0; i < members.size() / sizeof(nopspan_member); ++i, at += sizeof(nopspan_member)) {
      nopspan_member member;
      std::memcpy(&member, at, sizeof(member));
      member = steps.changed(member, way);
      std::memcpy(at, &member, sizeof(member));
    }
  };
  for_each_recorded(payload, [&](RecordedKind kind, std::string_view message) {
    RecordedBatch batch;
    if (kind != RecordedKind::batch || !take_front(message, batch)) return true;
    if ((batch.flags & kRecordedPieces) != 0) return true;
    const std::string_view bytes = message.substr(0, batch.bytes);
    for (std::string_view left = bytes;;) {
      const std::string_view record = record_at(left);
      if (record.empty()) return true;
      change_entry(record, bytes, batch);
      left.remove_prefix(padded_size(record, left.size()));
    }
  });
}

}  // namespace

void shorten_steps(std::string& payload) { change_steps(payload, Way::shorten); }
void restore_steps(std::string& payload) { change_steps(payload, Way::restore); }

namespace {

constexpr std::size_t kMostLabel = 255;
// Of the attributes, and of the links or members, of an entry, whose size has 16 bits. No library writes more.
constexpr std::size_t kMostAttributes = 32U << 10U, kMostLinks = (16U << 10U) / 24 * 24;
constexpr std::size_t kMostRequests = 16;  // that are looked for in a batch
constexpr std::uint64_t kMostLeftOut = 8;  // entries that are missing between two of a batch
constexpr std::uint64_t kMostClocks = 1024;
constexpr std::uint32_t kLibraryFlags = ~(kSampledEntry | kPartialEntry);

template <class Struct>
void append_struct(std::string& to, const Struct& value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

unsigned char kind_of(const Entry& entry) {
  constexpr unsigned char kKinds[] = {NOPSPAN_ENTRY_SPAN, NOPSPAN_ENTRY_EVENT, NOPSPAN_ENTRY_RETRY, NOPSPAN_ENTRY_GAUGE,
                                      NOPSPAN_ENTRY_MEMBERS};  // by Kind
  if (entry.kind == Kind::span && entry.step != nullptr) return NOPSPAN_ENTRY_STEP;
  return kKinds[static_cast<std::size_t>(entry.kind)];
}

std::string_view links_of(const Entry& entry) {
  const bool has_members = entry.kind == Kind::part || entry.step != nullptr;
  return (has_members ? entry.members : entry.links).substr(0, kMostLinks);
}

// Without NOPSPAN_PART_TIMES.
std::uint32_t parts_of(const Entry& entry) {
  const bool has_values = entry.kind == Kind::retry || entry.kind == Kind::gauge || entry.kind == Kind::part;
  std::uint32_t parts =
      (entry.has_usage ? NOPSPAN_PART_USAGE : 0U) | (entry.has_first_token ? NOPSPAN_PART_FIRST_TOKEN : 0U) |
      (entry.has_engine_times ? NOPSPAN_PART_ENGINE : 0U) | (has_values ? NOPSPAN_PART_VALUES : 0U) |
      (entry.step != nullptr ? NOPSPAN_PART_STEP : 0U) |
      (entry.exception_kind.empty() ? 0U : NOPSPAN_PART_EXCEPTION_KIND) |
      (entry.error_type.empty() ? 0U : NOPSPAN_PART_ERROR_TYPE) | (entry.text.empty() ? 0U : NOPSPAN_PART_TEXT) |
      (links_of(entry).empty() ? 0U : NOPSPAN_PART_LINKS);
  if (parts >= NOPSPAN_PART_EXCEPTION_KIND && !entry.attributes.empty()) parts |= NOPSPAN_PART_ATTRIBUTES;
  return parts | (entry.counts_tokens ? NOPSPAN_COUNTS_TOKENS : 0U) | (entry.counts_tool ? NOPSPAN_COUNTS_TOOL : 0U);
}

std::string_view label(std::string_view text) { return text.substr(0, kMostLabel); }

}  // namespace

nopspan_text EntryPacker::append(std::string_view text) {
  if (text.empty()) return {};
  const nopspan_text where{place(), static_cast<unsigned short>(text.size())};
  bytes_ += text;
  bytes_.resize((bytes_.size() + 7) / 8 * 8);
  return where;
}

const EntryPacker::Request& EntryPacker::request_of(const Entry& entry) {
  const std::string_view tracestate = entry.tracestate.substr(0, kMostTracestate);
  const std::string_view foreign_id = label(entry.foreign_id);
  const auto known = std::find_if(requests_.rbegin(), requests_.rend(), [&](const Request& one) {
    return one.root_id == entry.root_id && one.trace_id == entry.trace_id && one.tracestate == tracestate &&
           one.foreign_id == foreign_id;
  });
  if (known != requests_.rend()) return *known;
  nopspan_request request{};
  request.kind = NOPSPAN_SHARED_REQUEST;
  request.flags = (entry.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0 ? NOPSPAN_REQUEST_FOREIGN_ID : 0;
  std::memcpy(request.trace_id, entry.trace_id.bytes, sizeof(request.trace_id));
  request.root_id = entry.root_id;
  request.start_ns = entry.start_unix_ns;
  if (requests_.size() >= kMostRequests) requests_.erase(requests_.begin());
  requests_.push_back(
      {entry.trace_id, entry.root_id, std::string(tracestate), std::string(foreign_id), entry.start_unix_ns, place()});
  const std::size_t at = bytes_.size();
  bytes_.resize(at + sizeof(request));
  request.foreign_id = append(foreign_id);
  request.tracestate = append(tracestate);
  request.size = static_cast<unsigned short>(bytes_.size() - at);
  std::memcpy(bytes_.data() + at, &request, sizeof(request));
  return requests_.back();
}

unsigned short EntryPacker::form_of(const Entry& entry, unsigned char kind, std::uint32_t parts) {
  nopspan_form form{};
  form.kind = NOPSPAN_SHARED_FORM;
  form.entry_kind = kind;
  form.flags = entry.flags & kLibraryFlags & ~std::uint32_t{NOPSPAN_FLAG_ATTRIBUTES_DROPPED};
  form.parts = parts;
  key_.assign(reinterpret_cast<const char*>(&form), sizeof(form));
  const std::string_view texts[] = {label(entry.name), label(entry.engine), label(entry.model), label(entry.tenant)};
  for (const std::string_view text : texts) {
    key_ += static_cast<char>(text.size());
    key_ += text;
  }
  const auto [known, is_new] = forms_.try_emplace(key_, place());
  if (!is_new) return known->second;
  const std::size_t at = bytes_.size();
  bytes_.resize(at + sizeof(form));
  form.name = append(texts[0]);
  form.engine = append(texts[1]);
  form.model = append(texts[2]);
  form.tenant = append(texts[3]);
  form.size = static_cast<unsigned short>(bytes_.size() - at);
  std::memcpy(bytes_.data() + at, &form, sizeof(form));
  return known->second;
}

void EntryPacker::append_words(const Entry& entry, std::uint32_t parts) {
  const std::uint64_t times[] = {entry.start_unix_ns, entry.duration_ns};
  const std::uint64_t values[] = {static_cast<std::uint64_t>(entry.value), entry.number};
  if ((parts & NOPSPAN_PART_TIMES) != 0) append_struct(bytes_, times);
  if ((parts & NOPSPAN_PART_USAGE) != 0) append_struct(bytes_, entry.usage);
  if ((parts & NOPSPAN_PART_FIRST_TOKEN) != 0) append_struct(bytes_, entry.first_token_ns);
  if ((parts & NOPSPAN_PART_ENGINE) != 0) append_struct(bytes_, entry.engine_times);
  if ((parts & NOPSPAN_PART_VALUES) != 0) append_struct(bytes_, values);
  if ((parts & NOPSPAN_PART_STEP) != 0) append_struct(bytes_, *entry.step);
}

void EntryPacker::add(const Entry& entry, std::uint64_t left_out) {
  for (; left_out > 0; --left_out, ++entries_) {
    nopspan_entry none{};
    none.size = 8;
    none.kind = NOPSPAN_ENTRY_LEFT_OUT;
    bytes_.append(reinterpret_cast<const char*>(&none), 8);
  }
  const Request& request = request_of(entry);
  const std::uint64_t start = entry.start_unix_ns - request.start_ns;
  constexpr std::uint64_t kHalf = std::uint64_t{1} << 31U;
  const bool is_near = (start + kHalf) >> 32U == 0 && entry.duration_ns >> 32U == 0;
  const std::uint32_t parts = parts_of(entry) | (is_near ? 0U : NOPSPAN_PART_TIMES);
  const bool has_all = entry.attributes.size() <= kMostAttributes;
  nopspan_entry raw{};
  raw.kind = kind_of(entry);
  raw.status = entry.status <= kException ? entry.status : kError;
  if (!has_all || (entry.flags & NOPSPAN_FLAG_ATTRIBUTES_DROPPED) != 0) raw.status |= NOPSPAN_ENTRY_ATTRIBUTES_DROPPED;
  raw.request = request.place;
  raw.form = form_of(entry, raw.kind, parts);
  raw.span_id = entry.span_id;
  raw.parent_id = entry.parent_id;
  if (is_near) {
    raw.start_ns = static_cast<int>(start);
    raw.duration_ns = static_cast<unsigned>(entry.duration_ns);
  }
  const std::size_t at = bytes_.size();
  bytes_.resize(at + sizeof(raw));
  append_words(entry, parts);
  const std::string_view attributes = has_all ? entry.attributes : std::string_view();
  std::size_t end = 0;
  if ((parts & NOPSPAN_PART_TEXTS) == 0) {
    bytes_ += attributes;
    end = bytes_.size();
    bytes_.resize((end + 7) / 8 * 8);
  } else {
    // In the order of their bits.
    const std::string_view texts[] = {label(entry.exception_kind), label(entry.error_type), label(entry.text),
                                      links_of(entry), attributes};
    std::vector<nopspan_text> places;
    const std::size_t places_at = bytes_.size();
    const auto bits = static_cast<std::size_t>(__builtin_popcount(parts & NOPSPAN_PART_TEXTS));
    bytes_.resize(places_at + (bits * sizeof(nopspan_text) + 7) / 8 * 8);
    for (std::size_t i = 0; i < std::size(texts); ++i) {
      if ((parts & (std::uint32_t{NOPSPAN_PART_EXCEPTION_KIND} << i)) != 0) places.push_back(append(texts[i]));
    }
    std::memcpy(bytes_.data() + places_at, places.data(), places.size() * sizeof(nopspan_text));
    end = bytes_.size();
  }
  raw.size = static_cast<unsigned short>(end - at);
  std::memcpy(bytes_.data() + at, &raw, sizeof(raw));
  ++entries_;
}

std::string EntryPacker::take() {
  requests_.clear();
  forms_.clear();
  entries_ = 0;
  return std::exchange(bytes_, {});
}

std::uint32_t EntryEncoder::number_of(const ProcessPointer& process) {
  const auto [known, is_new] = numbers_.try_emplace(process.get(), static_cast<std::uint32_t>(shares_.size()));
  if (is_new) {
    shares_.push_back({process, 0});
    const Process& p = *process;
    chunk_.add(RecordedProcess{p.pid, p.namespace_pid, p.start_ticks, p.clock_offset_ns},
               {p.comm, p.executable, p.cgroup, p.container, p.library, p.library_version, p.host, p.boot_id,
                p.service_name, p.resource_attributes, p.instance != 0 ? id_text(p.instance) : ""});
  }
  return known->second;
}

void EntryEncoder::add(const Entry& entry) {
  const std::uint32_t flags = kRecordedUnixTimes | (entry.before_attach ? kRecordedBeforeAttach : 0U) |
                              ((entry.flags & kSampledEntry) != 0 ? kRecordedSampled : 0U);
  const auto known = numbers_.find(entry.process->get());
  const bool continues = packer_.entries() > 0 && packer_.bytes() < EntryPacker::kMost && known != numbers_.end() &&
                         known->second == packed_.process && entry.sequence_id == packed_.sequence_id &&
                         entry.thread_id == packed_.thread_id && flags == packed_.flags && entry.sequence >= next_ &&
                         entry.sequence - next_ <= kMostLeftOut;
  if (!continues) {
    end_packed();
    packed_.process = number_of(*entry.process);
    packed_.thread_id = entry.thread_id;
    packed_.sequence_id = entry.sequence_id;
    packed_.first = next_ = entry.sequence;
    packed_.flags = flags;
  }
  packer_.add(entry, entry.sequence - next_);
  next_ = entry.sequence + 1;
  ++shares_[packed_.process].entries;
  ++entries_;
}

void EntryEncoder::add(const EntryBatch& batch) {
  end_packed();
  if (clocks_ != batch.clocks->count()) add_clocks(*batch.clocks);
  RecordedBatch recorded;
  recorded.process = number_of(*batch.process);
  recorded.thread_id = batch.thread_id;
  recorded.sequence_id = batch.sequence_id;
  recorded.first = batch.first;
  recorded.entries = batch.entries;
  chunk_.add(recorded, batch.bytes);
  shares_[recorded.process].entries += batch.entries;
  entries_ += batch.entries;
}

void EntryEncoder::add_clocks(const ClockSamples& clocks) {
  const std::uint64_t fresh = clocks.count() - std::exchange(clocks_, clocks.count());
  clocks.for_each_of_last(std::min(fresh, kMostClocks), [this](std::uint64_t monotonic_ns, std::uint64_t offset_ns) {
    chunk_.add(RecordedClock{monotonic_ns, offset_ns});
  });
}

void EntryEncoder::end_packed() {
  if (packer_.entries() == 0) return;
  packed_.entries = packer_.entries();
  chunk_.add(packed_, packer_.take());
}

std::vector<EntryShare> EntryEncoder::finish(std::string& out) {
  end_packed();
  chunk_.take(out);
  clocks_ = entries_ = 0;
  numbers_.clear();
  return std::exchange(shares_, {});
}

}  // namespace nopspan::collector
