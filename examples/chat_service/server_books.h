// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_SERVER_BOOKS_H
#define EXAMPLES_SERVER_BOOKS_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "json_lines.h"

namespace example {

// What the engine did for a request, beside its tokens.
struct GenerationFacts {
  std::size_t drafts = 0, drafted_tokens = 0, accepted_tokens = 0;
  std::vector<std::size_t> accepted_by_position;  // empty without drafts
  std::size_t preemptions = 0;
  std::size_t recomputed_tokens = 0;  // that were processed again after a preemption
  std::size_t prompt_chunks = 0;      // steps that processed a part of the prompt
  // The times between tokens, in nanoseconds, and the number of tokens that each of these gaps brought.
  std::vector<std::pair<std::int64_t, std::size_t>> gaps;
};

// The server's own record of a request, complete when the request ends.
struct RequestEntry {
  std::string request_id;
  std::uint64_t number = 0;     // the engine's own. 0: it never reached the engine
  std::int64_t arrival_ns = 0;  // CLOCK_MONOTONIC
  std::int64_t queue_ns = 0;
  std::int64_t prefill_ns = 0;
  std::int64_t decode_ns = 0;
  std::int64_t ttft_ns = -1;         // from arrival. Negative if no token was generated
  std::int64_t ttft_latest_ns = -1;  // when nopspan had recorded it
  std::size_t input_tokens = 0;
  std::size_t output_tokens = 0;
  std::size_t cached_tokens = 0;
  std::size_t prefill_tokens = 0;
  std::size_t max_tokens = 0;
  GenerationFacts facts;
  std::string finish_reason;
  bool cancelled = false;
  int status = 200;  // the HTTP status
};

// The server's own account of its work: one line of JSON for each request and each step of the engine. It does not use
// nopspan, so that nopspan's results can be compared with it. Thread-safe.
class ServerBooks {
 public:
  // Writes nothing.
  ServerBooks() = default;
  // Creates the file with a line about the server, which must reach the disk. Throws std::runtime_error.
  ServerBooks(const std::string& path, const Json& server);

  void add(const RequestEntry& request);
  // What a step did for one request, which the engine knows by this number.
  struct Member {
    std::uint64_t number;
    std::size_t prefill_tokens, decode_tokens, drafted_tokens, accepted_tokens;
  };
  struct Step {
    std::uint64_t number;
    std::size_t batch_size, prefill_tokens, decode_tokens, drafted_tokens, accepted_tokens;
    std::vector<Member> members;
  };
  void add_step(const Step& step);
  // What happened to blocks: "preempted", "evicted", "prefix_cache".
  void add_event(const char* name, Json facts);

  // Writes the remaining lines. Returns "", or how many lines were lost and why.
  std::string close() { return lines_ != nullptr ? lines_->flush() : std::string(); }

 private:
  std::unique_ptr<JsonLines> lines_;
};

}  // namespace example

#endif  // EXAMPLES_SERVER_BOOKS_H
