// SPDX-License-Identifier: Apache-2.0
// Messages as bytes, for a pipe between two processes of one build.
//
// A message is its kind, its size with both of these numbers, and its fields. A field is a number of 64 bits, a struct
// as it is in memory, or a text after its length. Structs and texts are padded to 8 bytes, so that a batch is aligned
// if the first message is.
#pragma once

#include "base/byte_buffer.h"
#include "stream/messages.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::collector {

// Appends the messages to a buffer.
class MessageWriter final : public MessageSink {
 public:
  explicit MessageWriter(ByteBuffer& out) : out_(out) {}

  void on_start(const TracerStart& start) override;
  void on_batch(const nopspan_message& message, std::string_view bytes) override;
  void on_clock(const ClockSample& sample) override;
  void on_attach(const AttachChange& change) override;
  void on_process(const Described& described) override;
  void on_begun(const Begun& begun) override;
  void on_held(const Held& held) override;
  void on_dropped(const LibraryDropped& dropped) override;
  void on_losses(const AllLosses& losses) override;
  void on_gone(std::uint32_t pid) override;
  void on_closed(const Closed& closed) override;
  void on_forgotten(const ForgottenThreads& forgotten) override;
  void on_mark(Mark mark, std::uint64_t time_ns) override;
  void on_state(const TracerState& state) override;
  void on_open(const PackedOpenSpans& open) override;
  void on_open_read(const OpenSpansRead& read) override;
  void on_text(std::string_view text) override;
  void on_end(const TracerEnd& end) override;

 private:
  ByteBuffer& out_;
};

// Passes on the messages at the front of the bytes, at most `most`, and returns how many bytes these have. `bytes` must
// be aligned to 8. The rest may end in the middle of a message. Throws Failure if there is something else.
std::size_t read_messages(std::string_view bytes, MessageSink& to, std::size_t most = SIZE_MAX);

}  // namespace nopspan::collector
