// SPDX-License-Identifier: Apache-2.0
// The list of requests in flight, as text and as JSON.
#pragma once

#include "model/ledger.h"
#include "open/open_requests.h"
#include "stream/messages.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// What was read at one time.
struct OpenNow {
  std::uint64_t time_unix_ns = 0;  // 0: of a core file
  std::uint64_t time_ns = 0;       // CLOCK_MONOTONIC
  std::vector<OpenProcess> processes;
  std::vector<OpenRequest> requests;
  std::size_t unwanted = 0;  // requests that the filters exclude
  std::vector<Unattached> skipped;
};

// Why open spans could not be read: an errno value for people.
std::string why_no_spans(int error);

// Makes lists of the requests in flight from the messages of the process that reads other processes' memory.
class OpenReading : public MessageSink {
 public:
  // `on_list` is called with each list.
  OpenReading(OpenFilter filter, std::function<void(OpenNow)> on_list)
      : filter_(std::move(filter)), on_list_(std::move(on_list)) {}

  // Adds a copy of the library.
  void add(const ProcessPointer& process, std::uint32_t user, const std::string& library, int error, OpenSpans& open,
           const EarlyRequests& early = {});

  [[nodiscard]] bool has_started() const { return has_started_; }
  [[nodiscard]] const std::optional<TracerEnd>& end() const { return end_; }
  // How often the process that reads other processes was replaced, as of the last list.
  [[nodiscard]] std::uint64_t reader_restarts() const { return reader_restarts_; }

  void on_start(const TracerStart& /*start*/) override { has_started_ = true; }
  void on_process(const Described& described) override { process_ = described.process; }
  void on_held(const Held& held) override;
  void on_open(const PackedOpenSpans& open) override;
  void on_state(const TracerState& state) override { reader_restarts_ = state.reader_restarts; }
  void on_open_read(const OpenSpansRead& read) override;  // the list is complete
  void on_text(std::string_view text) override;
  void on_end(const TracerEnd& end) override { end_ = end; }

 private:
  const OpenFilter filter_;
  const std::function<void(OpenNow)> on_list_;
  bool has_started_ = false;
  std::uint64_t reader_restarts_ = 0;
  std::optional<TracerEnd> end_;

  // Of the copy of the library whose memory follows.
  ProcessPointer process_;
  EarlyRequests early_;
  // Of the list that is being read.
  OpenNow now_;
  std::vector<OpenSpan> spans_;
  OpenSpanLimit limit_;
};

// For a page: keeps the oldest 1,000 requests with up to 20 spans each, and 200 keys of requests and 100 processes that
// could not be read.
void shorten(OpenNow& now);
// How many requests are in the list, with those that are known by a key only.
std::string in_flight_text(const OpenNow& now);
// A row for each place at which a request is now, and for each request that is known by a key only. "" if there is
// none.
std::string open_text(const std::vector<OpenRequest>& requests, const std::vector<OpenProcess>& processes);
// Since when the requests of these processes are known; "" if all are known. Lines that end with a newline.
std::string known_text(const std::vector<OpenProcess>& processes);

nlohmann::ordered_json to_json(const OpenNow& now);
nlohmann::ordered_json to_json(const OpenRequest& request, const std::vector<OpenProcess>& processes);
nlohmann::ordered_json to_json(const OpenProcess& process);

}  // namespace nopspan::collector
