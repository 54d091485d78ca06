// SPDX-License-Identifier: Apache-2.0
// What a tracing process that was taken over may send to the command. The first byte of an input selects: the bytes of
// the pipe, or a script of messages. There are few processes and threads, so that messages refer to each other.
#include "require.h"
#include "script.h"

#include "../support/batch_builder.h"

#include "base/byte_buffer.h"
#include "base/failure.h"
#include "model/filter.h"
#include "open/open_list.h"
#include "reader/reader.h"
#include "stream/message_pipe.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>

namespace {

using namespace nopspan::collector;  // NOLINT: the whole file tests this namespace

class CountingSink : public Sink {
 public:
  void on_entry(const Entry& entry) override {
    require(entry.process != nullptr && *entry.process != nullptr, "an entry is of a process");
    ++entries;
  }
  void on_tick(std::uint64_t /*now_unix_ns*/) override {}
  std::uint64_t entries = 0;
};

// No sum may have wrapped around: beyond 2^64 - 1 it stays there.
void require_balance(const Counts& counts) {
  __extension__ using Wide = unsigned __int128;
  Wide became = Wide{counts.delivered} + counts.filtered;
  for (const CountField& field : kCountFields) {
    if (field.loss != nullptr) became += counts.*field.count;
  }
  require(Wide{counts.emitted} == std::min(became, Wide{UINT64_MAX}), "what was emitted is what became of it");
}

void read(std::string_view bytes) {
  const Filter filter;
  Reader reader(filter);
  CountingSink sink;
  reader.set_sink(&sink, [] {});
  try {
    const std::size_t used = read_messages(bytes, reader);
    require(used <= bytes.size(), "nothing beyond the bytes is read");
  } catch (const Failure&) {  // the command ends with this message
  }
  reader.abandon();
  const Ledger ledger = reader.ledger();
  require_balance(ledger.total);
  require(ledger.total.delivered == sink.entries, "the entries that the command got are those that are counted");
  for (const ProcessLedger& process : ledger.processes) require_balance(process.counts);

  OpenReading open({}, [](const OpenNow& now) { open_text(now.requests, now.processes); });
  try {
    read_messages(bytes, open);
  } catch (const Failure&) {
  }
}

// The messages of a script, as bytes.
class ScriptedMessages : Script {
 public:
  using Script::Script;

  std::string_view bytes() {
    const std::unique_ptr<MessageSink> to = message_writer(bytes_);
    to->on_start({Process(), {number(), number(), number()}, byte() % 2 == 0});
    while (!is_done()) add_to(*to);
    return bytes_.view();
  }

 private:
  std::uint32_t pid() { return byte() % 3 + 1; }
  std::uint64_t thread() { return byte() % 3; }
  nopspan_thread header() {
    nopspan_thread header{};
    header.sequence_id = thread();
    header.first = number();
    header.next = header.first + number();
    header.discarded = number();
    header.capacity = number();
    return header;
  }
  Losses losses() {
    Losses losses{};
    losses[byte() % NOPSPAN_REASONS] = number();
    return losses;
  }
  Counts dropped() {
    Counts counts;
    counts.no_memory = number();
    counts.members_dropped = number();
    return counts;
  }
  // Some spans, or the beginning of them.
  std::string_view batch() {
    static const std::string all = [] {
      BatchBuilder spans;
      for (const char* name : {"a", "b", "c", "d"}) spans.span(name, 1);
      return std::string(spans.bytes());
    }();
    const unsigned part = byte();
    return std::string_view(all).substr(0, part < 128 ? all.size() : all.size() * (part % 8) / 8 / 8 * 8);
  }
  void add_batch(MessageSink& to) {
    const nopspan_thread from = header();
    nopspan_message message{};
    message.kind = byte() % 5;
    message.flags = byte() % 4 == 0 ? NOPSPAN_MESSAGE_GONE : 0;
    message.pid = pid();
    message.tgid = pid();
    message.tid = byte() % 3;
    message.cgroup = byte() % 2;
    message.header = byte() % 3;
    message.time_ns = number();
    message.sequence_id = from.sequence_id;
    message.first = from.first;
    message.next = from.next;
    message.discarded = from.discarded;
    message.capacity = from.capacity;
    to.on_batch(message, batch());
  }
  void add_losses(MessageSink& to) {
    AllLosses all;
    all.processes.push_back({pid(), pid(), losses()});
    ThreadLosses of_thread{{pid(), thread()}, {}};
    of_thread.losses.first = number();
    of_thread.losses.next = number();
    of_thread.losses.discarded = number();
    of_thread.losses.entries[byte() % NOPSPAN_REASONS] = number();
    all.threads.push_back(of_thread);
    all.others = losses();
    all.time_ns = number();
    to.on_losses(all);
  }
  void add_to(MessageSink& to) {
    switch (byte() % 16) {
      case 0:
        return to.on_clock({number(), number(), number()});
      case 1:
        return to.on_attach({number(), byte() % 2 == 0, byte() % 2 == 0});
      case 2: {
        auto process = std::make_shared<Process>();
        process->pid = pid();
        process->start_ticks = byte() % 3;
        process->clock_offset_ns = static_cast<std::int64_t>(number());
        return to.on_process({process->pid, process, byte() % 2 == 0});
      }
      case 3:
        return to.on_begun({pid(), number(), number(), byte() % 2 == 0, {{thread(), number(), number()}}, byte(), {}});
      case 4:
        return to.on_held({static_cast<Held::What>(byte() % 5), pid(), header(), byte() % 3, number(), batch()});
      case 5:
        return to.on_dropped({pid(), byte() % 3, dropped(), number()});
      case 6:
        return add_losses(to);
      case 7:
        return to.on_gone(pid());
      case 8:
        return to.on_closed({pid(), byte() % 2 == 0, byte() % 2 == 0});
      case 9:
        return to.on_forgotten({pid(), {thread()}});
      case 10:
        return to.on_mark(static_cast<Mark>(byte() % 16), number());
      case 11:
        return to.on_open({pid(), byte(), "library", static_cast<int>(byte() % 3), batch()});
      case 12:
        return to.on_open_read({number(), number(), {{"path", pid(), "comm", "why"}}});
      default:
        return add_batch(to);
    }
  }

  ByteBuffer bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static std::streambuf* const silent = std::cerr.rdbuf(nullptr);
  static_cast<void>(silent);
  if (size < 1) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 4 != 0) {
    read(ScriptedMessages(input).bytes());
    return 0;
  }
  // Exactly sized memory, so that a sanitizer detects a read beyond the end.
  const std::unique_ptr<char[]> exact(new char[input.size()]);
  input.copy(exact.get(), input.size());
  read({exact.get(), input.size()});
  return 0;
}
