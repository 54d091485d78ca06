// SPDX-License-Identifier: Apache-2.0
// Makes a page (HTML) that shows requests and the steps of engines in a browser, without a network. convert/page/ has
// what the browser runs. The data are blocks, each an element of base64 of gzip:
// - "columns": the size of a JSON header (u32), the header, and after bytes up to a multiple of 8 its columns, each of
//   which fills a multiple of 8 bytes too. The header is {"kind": "requests" or "steps", "columns": [[name, type,
//   number of values], …], "texts": {…}}, where the last are arrays of texts that columns name by number.
// - "details": for each "requests" block an array of its requests, as `nopspan trace --json` prints them.
// - "head": JSON about the recordings, and what is known of losses.
#pragma once

#include "base/json_writer.h"
#include "blame/blame.h"
#include "blame/blame_print.h"
#include "convert/picture.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Texts, and their numbers in the order of their first use. Those beyond a limit have the number of kOthers.
class PageTexts {
 public:
  static constexpr std::size_t kMost = 65'536, kMostBytes = std::size_t{8} << 20U, kMostOfText = 4'096;
  static constexpr std::string_view kOthers = "\xff(others)";  // no text of a program has this byte on the page
  std::uint32_t number_of(std::string_view text);
  void write(JsonWriter& json) const;  // an array
  [[nodiscard]] bool has_others() const { return numbers_.contains(kOthers); }

 private:
  std::map<std::string, std::uint32_t, std::less<>> numbers_;
  std::vector<const std::string*> texts_;
  std::size_t bytes_ = 0;
};

// A page of one or several recordings.
class Page {
 public:
  static constexpr int kLevel = 6;  // of gzip
  // The text of the page before the blocks, and after them. If it is live, it follows blocks at "/live" (LiveFrames).
  static std::string top(bool is_live);
  static std::string bottom();

  // Receives the blocks "columns" and "details" as base64, in order.
  using Write = std::function<void(const char* kind, std::string_view base64)>;
  // Times are exact in columns if they are within 104 days of `begin_unix_ns`.
  explicit Page(Write write, std::uint64_t begin_unix_ns = 0, int gzip_level = kLevel)
      : write_(std::move(write)), begin_unix_ns_(begin_unix_ns), level_(gzip_level) {}
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  void set_begin(std::uint64_t unix_ns) { begin_unix_ns_ = unix_ns; }  // before the first block
  // The block "head" so far. `notes` are sentences about what was selected.
  [[nodiscard]] std::string head(std::vector<std::string> notes) const;

 private:
  friend class PageOfFile;
  struct File {
    std::string name, remark, losses;
    std::uint64_t outside = 0;  // spans and events that are in no request
    std::uint64_t unsure = 0;   // requests of which nobody knows who stalled them
    std::string stalls;         // JSON: which tenants stalled which
  };

  void write_block(const char* kind, std::string_view bytes) const;
  [[nodiscard]] double time_of(std::uint64_t unix_ns) const;

  Write write_;
  std::vector<File> files_;
  std::uint64_t begin_unix_ns_;  // of all times in columns
  const int level_;
  std::set<std::string> shortened_;  // kinds of texts that were too many or too long
};

// What a page has of one recording.
class PageOfFile : public Picture {
 public:
  // All must outlive this object. `name` is the name of the file. `is_live`: finish() is called again and again.
  PageOfFile(Page& page, const std::string& name, StepFlows& flows, bool is_live = false);
  void add(const AssembledTrace& trace) override;
  void add(const Entry& entry) override;
  void finish(const Ledger& ledger, const std::string& remark, const std::optional<ClockState>& clock) override;

 private:
  using Times = std::vector<double>;  // ns
  using Numbers = std::vector<std::uint32_t>;
  using Bytes = std::vector<std::uint8_t>;
  struct Requests {
    Times start, duration, input_tokens, output_tokens;
    Numbers name, tenant, model, spans, errors, over_limit;
    Bytes end, id, id_size;                          // TraceEnd; the texts of all ids; the bytes of each
    Times span_start, span_duration;                 // in a request, each after its parent
    std::vector<std::int32_t> span_parent;           // its place in the request; -1: none
    Numbers span_name, span_process, key, key_span;  // requests that steps name, and the places of their spans
    Bytes span_kind, span_status;
    PageTexts names, tenants, models, processes;
    ProcessPointer last_process;
    std::uint32_t last_process_number = 0;
  };
  struct Steps {
    Times start, duration, number, host, device;
    Numbers engine, prefill, decode, batch, members, process, id_low, id_high;
    Bytes is_part;                         // it continues the members of the step with the same id
    std::vector<std::int32_t> member_key;  // of its request; -1: not on this page
    Numbers member_prefill, member_context, member_decode;
    Times gauge_time, gauge_value;
    Numbers gauge;
    PageTexts engines, gauges;
  };

  void write_requests();
  void write_steps();
  [[nodiscard]] std::string stalls() const;

  Page& page_;
  const std::size_t file_;
  StepFlows& flows_;
  Requests requests_;
  Steps steps_;
  JsonWriter details_;
  const bool is_live_;
  BlameTable stalls_{BlameBy::tenant, 64, 0};
  std::uint64_t settled_steps_ = 0;
  Blame blame_;
};

}  // namespace nopspan::collector
