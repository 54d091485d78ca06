// SPDX-License-Identifier: Apache-2.0
#include "stream/message_codec.h"

#include "base/failure.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

namespace nopspan::collector {
namespace {

enum class MessageKind : std::uint64_t {
  start = 1,
  batch,
  clock,
  attach,
  process,
  begun,
  held,
  dropped,
  losses,
  gone,
  closed,
  forgotten,
  mark,
  state,
  open,
  open_read,
  text,
  end,
};

constexpr std::size_t kWord = sizeof(std::uint64_t);
constexpr std::size_t kMessageHead = 2 * kWord;
// Of a message whose size is wrong, not more than this is waited for.
constexpr std::size_t kMostMessageBytes = std::size_t{1} << 30U;

constexpr std::size_t padded(std::size_t bytes) { return (bytes + kWord - 1) / kWord * kWord; }

// A message that is being written.
class MessageOut {
 public:
  MessageOut(ByteBuffer& out, MessageKind kind) : out_(out), begin_(out.size()) {
    number(static_cast<std::uint64_t>(kind)).number(0);
  }
  ~MessageOut() { put(begin_ + kWord, out_.size() - begin_); }
  MessageOut(const MessageOut&) = delete;
  MessageOut& operator=(const MessageOut&) = delete;

  MessageOut& number(std::uint64_t value) {
    std::memcpy(out_.extend(kWord), &value, kWord);
    return *this;
  }
  template <class Struct>
  MessageOut& pod(const Struct& value) {
    static_assert(std::is_trivially_copyable_v<Struct>);
    return bytes({reinterpret_cast<const char*>(&value), sizeof(value)});
  }
  MessageOut& text(std::string_view text) { return number(text.size()).bytes(text); }

 private:
  MessageOut& bytes(std::string_view bytes) {
    char* const to = out_.extend(padded(bytes.size()));
    if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
    std::memset(to + bytes.size(), 0, padded(bytes.size()) - bytes.size());
    return *this;
  }
  void put(std::size_t at, std::uint64_t value) { std::memcpy(out_.at(at), &value, kWord); }

  ByteBuffer& out_;
  const std::size_t begin_;
};

// The fields of a message that is being read.
class MessageIn {
 public:
  explicit MessageIn(std::string_view fields) : rest_(fields) {}

  std::uint64_t number() {
    std::uint64_t value = 0;
    std::memcpy(&value, take(kWord).data(), kWord);
    return value;
  }
  template <class Number>
  Number number_as() {
    return static_cast<Number>(number());
  }
  bool flag() { return number() != 0; }
  template <class Struct>
  Struct pod() {
    Struct value;
    std::memcpy(&value, take(sizeof(value)).data(), sizeof(value));
    return value;
  }
  std::string_view text() { return take(number()); }
  // The length of a list of elements that have at least so many bytes.
  std::size_t count(std::size_t least_bytes) {
    const std::uint64_t elements = number();
    if (elements > rest_.size() / least_bytes) fail();
    return elements;
  }
  [[noreturn]] static void fail() { throw Failure("a message of the tracing process is malformed"); }

 private:
  std::string_view take(std::uint64_t bytes) {
    if (bytes > rest_.size() || padded(bytes) > rest_.size()) fail();
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(padded(bytes));
    return taken;
  }

  std::string_view rest_;
};

void write(MessageOut& out, const Process& process) {
  out.number(process.pid).number(process.namespace_pid).number(process.start_ticks);
  out.number(static_cast<std::uint64_t>(process.clock_offset_ns)).number(process.claimed_by);
  for (const auto text : kProcessTexts) out.text(process.*text);
}

Process read_process(MessageIn& in) {
  Process process;
  process.pid = in.number_as<std::uint32_t>();
  process.namespace_pid = in.number_as<std::uint32_t>();
  process.start_ticks = in.number();
  process.clock_offset_ns = in.number_as<std::int64_t>();
  process.claimed_by = in.number();
  for (const auto text : kProcessTexts) process.*text = in.text();
  return process;
}

void read_start(MessageIn& in, MessageSink& to) {
  TracerStart start;
  start.unknown = read_process(in);
  start.clock = in.pod<ClockSample>();
  start.same_numbers = in.flag();
  to.on_start(start);
}

void read_attach(MessageIn& in, MessageSink& to) {
  AttachChange change;
  change.time_ns = in.number();
  change.begins = in.flag();
  change.has_attached = in.flag();
  to.on_attach(change);
}

void read_described(MessageIn& in, MessageSink& to) {
  Described described;
  described.pid = in.number_as<std::uint32_t>();
  described.has_begun = in.flag();
  described.process = std::make_shared<const Process>(read_process(in));
  to.on_process(described);
}

void read_begun(MessageIn& in, MessageSink& to) {
  Begun begun;
  begun.pid = in.number_as<std::uint32_t>();
  begun.time_ns = in.number();
  begun.running_threads = in.number();
  begun.are_all_known = in.flag();
  begun.gate_address = in.number();
  begun.dropped = in.pod<Counts>();
  begun.threads.resize(in.count(sizeof(Begun::Thread)));
  for (Begun::Thread& thread : begun.threads) thread = in.pod<Begun::Thread>();
  to.on_begun(begun);
}

void read_held(MessageIn& in, MessageSink& to) {
  Held held;
  held.what = in.number_as<Held::What>();
  held.pid = in.number_as<std::uint32_t>();
  held.header = in.pod<nopspan_thread>();
  held.address = in.number();
  held.time_ns = in.number();
  held.bytes = in.text();
  to.on_held(held);
}

void read_dropped(MessageIn& in, MessageSink& to) {
  LibraryDropped dropped;
  dropped.pid = in.number_as<std::uint32_t>();
  dropped.gate_address = in.number();
  dropped.dropped = in.pod<Counts>();
  dropped.time_ns = in.number();
  to.on_dropped(dropped);
}

void read_losses(MessageIn& in, MessageSink& to) {
  AllLosses losses;
  losses.time_ns = in.number();
  losses.others = in.pod<Losses>();
  losses.processes.resize(in.count(sizeof(ProcessLosses)));
  for (ProcessLosses& one : losses.processes) one = in.pod<ProcessLosses>();
  losses.threads.resize(in.count(sizeof(ThreadLosses)));
  for (ThreadLosses& one : losses.threads) one = in.pod<ThreadLosses>();
  to.on_losses(losses);
}

void read_closed(MessageIn& in, MessageSink& to) {
  Closed closed;
  closed.pid = in.number_as<std::uint32_t>();
  closed.lost_held = in.flag();
  closed.is_reused = in.flag();
  to.on_closed(closed);
}

void read_forgotten(MessageIn& in, MessageSink& to) {
  ForgottenThreads forgotten;
  forgotten.pid = in.number_as<std::uint32_t>();
  forgotten.sequence_ids.resize(in.count(kWord));
  for (std::uint64_t& id : forgotten.sequence_ids) id = in.number();
  to.on_forgotten(forgotten);
}

void write(MessageOut& out, const std::vector<Unattached>& all) {
  out.number(all.size());
  for (const Unattached& one : all) out.number(one.pid).text(one.path).text(one.comm).text(one.why);
}

std::vector<Unattached> read_unattached(MessageIn& in) {
  std::vector<Unattached> all(in.count(4 * kWord));
  for (Unattached& one : all) {
    one.pid = in.number_as<std::uint32_t>();
    one.path = in.text();
    one.comm = in.text();
    one.why = in.text();
  }
  return all;
}

void read_state(MessageIn& in, MessageSink& to) {
  TracerState state;
  state.processes = in.number();
  state.is_cut = in.flag();
  state.remark = in.text();
  state.unattached.unattached_others = in.number();
  state.unattached.unattached = read_unattached(in);
  to.on_state(state);
}

void read_open(MessageIn& in, MessageSink& to) {
  PackedOpenSpans open;
  open.pid = in.number_as<std::uint32_t>();
  open.user = in.number_as<std::uint32_t>();
  open.library = in.text();
  open.error = in.number_as<int>();
  open.bytes = in.text();
  to.on_open(open);
}

void read_open_read(MessageIn& in, MessageSink& to) {
  OpenSpansRead read;
  read.time_unix_ns = in.number();
  read.time_ns = in.number();
  read.skipped = read_unattached(in);
  to.on_open_read(read);
}

void read_end(MessageIn& in, MessageSink& to) {
  TracerEnd end;
  end.status = in.number_as<int>();
  end.message = in.text();
  to.on_end(end);
}

void read_message(MessageKind kind, MessageIn& in, MessageSink& to) {
  switch (kind) {
    case MessageKind::start:
      return read_start(in, to);
    case MessageKind::batch: {
      const auto message = in.pod<nopspan_message>();
      return to.on_batch(message, in.text());
    }
    case MessageKind::clock:
      return to.on_clock(in.pod<ClockSample>());
    case MessageKind::attach:
      return read_attach(in, to);
    case MessageKind::process:
      return read_described(in, to);
    case MessageKind::begun:
      return read_begun(in, to);
    case MessageKind::held:
      return read_held(in, to);
    case MessageKind::dropped:
      return read_dropped(in, to);
    case MessageKind::losses:
      return read_losses(in, to);
    case MessageKind::gone:
      return to.on_gone(in.number_as<std::uint32_t>());
    case MessageKind::closed:
      return read_closed(in, to);
    case MessageKind::forgotten:
      return read_forgotten(in, to);
    case MessageKind::mark: {
      const auto mark = in.number_as<Mark>();
      return to.on_mark(mark, in.number());
    }
    case MessageKind::state:
      return read_state(in, to);
    case MessageKind::open:
      return read_open(in, to);
    case MessageKind::open_read:
      return read_open_read(in, to);
    case MessageKind::text:
      return to.on_text(in.text());
    case MessageKind::end:
      return read_end(in, to);
  }
  MessageIn::fail();
}

}  // namespace

void MessageWriter::on_start(const TracerStart& start) {
  MessageOut out(out_, MessageKind::start);
  write(out, start.unknown);
  out.pod(start.clock).number(start.same_numbers ? 1 : 0);
}

void MessageWriter::on_batch(const nopspan_message& message, std::string_view bytes) {
  MessageOut(out_, MessageKind::batch).pod(message).text(bytes);
}

void MessageWriter::on_clock(const ClockSample& sample) { MessageOut(out_, MessageKind::clock).pod(sample); }

void MessageWriter::on_attach(const AttachChange& change) {
  MessageOut(out_, MessageKind::attach).number(change.time_ns).number(change.begins).number(change.has_attached);
}

void MessageWriter::on_process(const Described& described) {
  MessageOut out(out_, MessageKind::process);
  out.number(described.pid).number(described.has_begun);
  write(out, *described.process);
}

void MessageWriter::on_begun(const Begun& begun) {
  MessageOut out(out_, MessageKind::begun);
  out.number(begun.pid).number(begun.time_ns).number(begun.running_threads).number(begun.are_all_known);
  out.number(begun.gate_address).pod(begun.dropped).number(begun.threads.size());
  for (const Begun::Thread& thread : begun.threads) out.pod(thread);
}

void MessageWriter::on_held(const Held& held) {
  MessageOut out(out_, MessageKind::held);
  out.number(static_cast<std::uint64_t>(held.what)).number(held.pid).pod(held.header).number(held.address);
  out.number(held.time_ns).text(held.bytes);
}

void MessageWriter::on_dropped(const LibraryDropped& dropped) {
  MessageOut out(out_, MessageKind::dropped);
  out.number(dropped.pid).number(dropped.gate_address).pod(dropped.dropped).number(dropped.time_ns);
}

void MessageWriter::on_losses(const AllLosses& losses) {
  MessageOut out(out_, MessageKind::losses);
  out.number(losses.time_ns).pod(losses.others).number(losses.processes.size());
  for (const ProcessLosses& one : losses.processes) out.pod(one);
  out.number(losses.threads.size());
  for (const ThreadLosses& one : losses.threads) out.pod(one);
}

void MessageWriter::on_gone(std::uint32_t pid) { MessageOut(out_, MessageKind::gone).number(pid); }

void MessageWriter::on_closed(const Closed& closed) {
  MessageOut(out_, MessageKind::closed).number(closed.pid).number(closed.lost_held).number(closed.is_reused);
}

void MessageWriter::on_forgotten(const ForgottenThreads& forgotten) {
  MessageOut out(out_, MessageKind::forgotten);
  out.number(forgotten.pid).number(forgotten.sequence_ids.size());
  for (const std::uint64_t id : forgotten.sequence_ids) out.number(id);
}

void MessageWriter::on_mark(Mark mark, std::uint64_t time_ns) {
  MessageOut(out_, MessageKind::mark).number(static_cast<std::uint64_t>(mark)).number(time_ns);
}

void MessageWriter::on_state(const TracerState& state) {
  MessageOut out(out_, MessageKind::state);
  out.number(state.processes).number(state.is_cut).text(state.remark);
  out.number(state.unattached.unattached_others);
  write(out, state.unattached.unattached);
}

void MessageWriter::on_open(const PackedOpenSpans& open) {
  MessageOut out(out_, MessageKind::open);
  out.number(open.pid).number(open.user).text(open.library).number(static_cast<std::uint64_t>(open.error));
  out.text(open.bytes);
}

void MessageWriter::on_open_read(const OpenSpansRead& read) {
  MessageOut out(out_, MessageKind::open_read);
  out.number(read.time_unix_ns).number(read.time_ns);
  write(out, read.skipped);
}

void MessageWriter::on_text(std::string_view text) { MessageOut(out_, MessageKind::text).text(text); }

void MessageWriter::on_end(const TracerEnd& end) {
  MessageOut out(out_, MessageKind::end);
  out.number(static_cast<std::uint64_t>(end.status)).text(end.message);
}

std::size_t read_messages(std::string_view bytes, MessageSink& to, std::size_t most) {
  std::size_t read = 0;
  for (; most > 0 && bytes.size() - read >= kMessageHead; --most) {
    MessageIn head(bytes.substr(read, kMessageHead));
    const auto kind = head.number_as<MessageKind>();
    const std::uint64_t size = head.number();
    if (size < kMessageHead || size > kMostMessageBytes || size % kWord != 0) MessageIn::fail();
    if (size > bytes.size() - read) break;
    MessageIn fields(bytes.substr(read + kMessageHead, size - kMessageHead));
    read_message(kind, fields, to);
    read += size;
  }
  return read;
}

}  // namespace nopspan::collector
