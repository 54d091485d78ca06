// SPDX-License-Identifier: Apache-2.0
// Messages as bytes: each arrives as it was sent, and malformed ones are refused.
#include "stream/message_pipe.h"

#include "base/failure.h"
#include "model/service.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace nopspan::collector {
namespace {

// Writes each message that it receives as a line.
class Lines : public MessageSink {
 public:
  std::vector<std::string> all;

  void on_start(const TracerStart& start) override {
    line("start", text(start.unknown), start.clock.offset_ns, start.same_numbers);
  }
  void on_batch(const nopspan_message& message, std::string_view bytes) override {
    line("batch", message.pid, message.sequence_id, message.comm, std::string(bytes));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) % 8, 0U);
  }
  void on_clock(const ClockSample& sample) override {
    line("clock", sample.monotonic_ns, sample.offset_ns, sample.error_ns);
  }
  void on_attach(const AttachChange& change) override {
    line("attach", change.time_ns, change.begins, change.has_attached);
  }
  void on_process(const Described& described) override {
    line("process", described.pid, described.has_begun, text(*described.process));
  }
  void on_begun(const Begun& begun) override {
    line("begun", begun.pid, begun.time_ns, begun.running_threads, begun.are_all_known, begun.gate_address,
         begun.dropped.no_memory);
    for (const Begun::Thread& thread : begun.threads) line(" ", thread.sequence_id, thread.next, thread.discarded);
  }
  void on_held(const Held& held) override {
    line("held", static_cast<int>(held.what), held.pid, held.header.sequence_id, held.address, held.time_ns,
         std::string(held.bytes));
  }
  void on_dropped(const LibraryDropped& dropped) override {
    line("dropped", dropped.pid, dropped.gate_address, dropped.dropped.over_limit, dropped.time_ns);
  }
  void on_losses(const AllLosses& losses) override {
    line("losses", losses.time_ns, losses.others[1]);
    for (const ProcessLosses& one : losses.processes) line(" ", one.tgid, one.pid, one.losses[2]);
    for (const ThreadLosses& one : losses.threads) line(" ", one.key.sequence_id, one.losses.next);
  }
  void on_gone(std::uint32_t pid) override { line("gone", pid); }
  void on_closed(const Closed& closed) override { line("closed", closed.pid, closed.lost_held, closed.is_reused); }
  void on_forgotten(const ForgottenThreads& forgotten) override {
    line("forgotten", forgotten.pid);
    for (const std::uint64_t id : forgotten.sequence_ids) line(" ", id);
  }
  void on_mark(Mark mark, std::uint64_t time_ns) override { line("mark", static_cast<int>(mark), time_ns); }
  void on_state(const TracerState& state) override {
    line("state", state.processes, state.reader_restarts, state.is_cut, state.remark,
         state.unattached.unattached_others);
    for (const Unattached& one : state.unattached.unattached) line(" ", one.path, one.pid, one.comm, one.why);
  }
  void on_open(const PackedOpenSpans& open) override {
    line("open", open.pid, open.user, open.library, open.error, std::string(open.bytes));
  }
  void on_open_read(const OpenSpansRead& read) override {
    line("open_read", read.time_unix_ns, read.time_ns);
    for (const Unattached& one : read.skipped) line(" ", one.path, one.pid, one.comm, one.why);
  }
  void on_text(std::string_view text) override { line("text", std::string(text)); }
  void on_end(const TracerEnd& end) override { line("end", end.status, end.message); }

 private:
  static std::string text(const std::string& text) { return text; }
  static std::string text(const char* text) { return text; }
  template <class Number>
  static std::string text(Number number) requires std::is_arithmetic_v<Number> {
    return std::to_string(number);
  }
  static std::string text(const Process& process) {
    std::string all = std::to_string(process.pid) + "/" + std::to_string(process.namespace_pid) + "/" +
                      std::to_string(process.start_ticks) + "/" + std::to_string(process.clock_offset_ns) + "/" +
                      std::to_string(process.claimed_by);
    for (const auto text : kProcessTexts) all += "/" + process.*text;
    return all + "/" + std::string(resource_value(process, "a"));
  }
  template <class... Parts>
  void line(const Parts&... parts) {
    std::string line;
    ((line += text(parts) + " "), ...);
    all.push_back(line);
  }
};

Process some_process() {
  Process process;
  process.pid = 1;
  process.namespace_pid = 2;
  process.start_ticks = 3;
  process.comm = "comm";
  process.executable = "executable";
  process.cgroup = std::string("with\0zero", 9);
  process.container = "container";
  process.library = "library";
  process.library_version = "version";
  process.host = "host";
  process.boot_id = "boot";
  set_service(process, "service", "a=b");
  process.clock_offset_ns = -4;
  process.claimed_by = 5;
  return process;
}

void send_one_of_each(MessageSink& to) {
  to.on_start({some_process(), {10, 11, 12}, true});
  nopspan_message message{};
  message.kind = NOPSPAN_MESSAGE_BATCH;
  message.pid = 20;
  message.sequence_id = 21;
  std::strcpy(message.comm, "thread");
  alignas(8) static constexpr char kBytes[] = "seven b";
  to.on_batch(message, kBytes);
  to.on_batch(message, std::string_view(kBytes, 0));
  to.on_clock({30, UINT64_MAX, 32});
  to.on_attach({40, true, false});
  to.on_attach({41, false, true});
  to.on_process({50, std::make_shared<const Process>(some_process()), true});
  Counts dropped;
  dropped.no_memory = 60;
  dropped.over_limit = 61;
  to.on_begun({62, 63, 64, true, {{65, 66, 67}, {68, 69, 70}}, 71, dropped});
  nopspan_thread header{};
  header.sequence_id = 80;
  to.on_held({Held::What::not_fetched, 81, header, 82, 83, "held bytes"});
  to.on_dropped({90, 91, dropped, 92});
  to.on_losses({{{100, 101, {0, 0, 102}}}, {{{103, 104}, {105, 106, 0, 0, {}}}}, {0, 107}, 108});
  to.on_gone(110);
  to.on_closed({120, true, false});
  to.on_closed({121, false, true});
  to.on_forgotten({130, {131, UINT64_MAX}});
  to.on_mark(Mark::detach_begins, 140);
  TracerState state{150, 153, true, "remark", {}};
  state.unattached.unattached = {{"path", 151, "comm", "why"}};
  state.unattached.unattached_others = 152;
  to.on_open({160, 161, "library", 162, "open spans"});
  to.on_open_read({163, UINT64_MAX, {{"path", 164, "comm", "why"}}});
  to.on_state(state);
  to.on_text("nopspan: a line\n");
  to.on_end({2, "message"});
}

TEST(MessageCodec, PassesOnEachMessage) {
  Lines sent, received;
  send_one_of_each(sent);
  ByteBuffer bytes;
  send_one_of_each(*message_writer(bytes));
  EXPECT_EQ(read_messages(bytes.view(), received), bytes.size());
  EXPECT_EQ(received.all, sent.all);
}

TEST(MessageCodec, PassesOnWhatIsWhole) {
  ByteBuffer bytes;
  const std::unique_ptr<MessageSink> writer = message_writer(bytes);
  writer->on_gone(1);
  const std::size_t first = bytes.size();
  writer->on_gone(2);
  for (std::size_t size = 0; size <= bytes.size(); ++size) {
    Lines received;
    const std::size_t read = read_messages(bytes.view().substr(0, size), received);
    EXPECT_EQ(read, size == bytes.size() ? size : size < first ? 0 : first);
    EXPECT_EQ(received.all.size(), read / first);
  }
  Lines one;
  EXPECT_EQ(read_messages(bytes.view(), one, 1), first);
  EXPECT_EQ(one.all, std::vector<std::string>{"gone 1 "});
}

TEST(MessageCodec, RefusesWhatIsMalformed) {
  ByteBuffer whole;
  send_one_of_each(*message_writer(whole));
  // Each number of the messages in turn, made too large, too small, or another one.
  for (std::size_t at = 0; at < whole.size(); at += 8) {
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1} << 63U, std::uint64_t{200}}) {
      ByteBuffer bytes;
      bytes.append(whole.view());
      std::memcpy(bytes.at(at), &value, sizeof(value));
      Lines received;
      try {
        read_messages(bytes.view(), received);
      } catch (const Failure&) {  // reads nothing beyond the bytes, and allocates no more than they can need
      }
    }
  }
  for (const std::uint64_t size : {std::uint64_t{8}, std::uint64_t{17}, std::uint64_t{1} << 40U}) {
    ByteBuffer bytes;
    message_writer(bytes)->on_gone(1);
    std::memcpy(bytes.at(8), &size, sizeof(size));
    Lines received;
    EXPECT_THROW(read_messages(bytes.view(), received), Failure) << size;
  }
}

// Whether the message is refused that `send` writes.
template <class Send>
bool is_refused(const Send& send) {
  ByteBuffer bytes;
  send(*message_writer(bytes));
  Lines received;
  try {
    read_messages(bytes.view(), received);
  } catch (const Failure&) {
    return true;
  }
  return false;
}

TEST(MessageCodec, RefusesWhatNoTracingProcessSends) {
  const auto refuses_batch = [](unsigned kind, std::uint64_t first, std::uint64_t next) {
    return is_refused([&](MessageSink& to) {
      nopspan_message message{};
      message.kind = kind;
      message.first = first;
      message.next = next;
      to.on_batch(message, "");
    });
  };
  EXPECT_FALSE(refuses_batch(NOPSPAN_MESSAGE_BATCH, 5, 5 + NOPSPAN_MOST_ENTRIES));
  EXPECT_TRUE(refuses_batch(NOPSPAN_MESSAGE_BATCH, 5, 6 + NOPSPAN_MOST_ENTRIES));
  EXPECT_TRUE(refuses_batch(NOPSPAN_MESSAGE_BATCH, 0, std::uint64_t{1} << 60U));
  EXPECT_TRUE(refuses_batch(NOPSPAN_MESSAGE_BATCH, 5, 4));
  EXPECT_TRUE(refuses_batch(NOPSPAN_MESSAGE_EXEC + 1, 5, 6));
  EXPECT_TRUE(refuses_batch(0, 5, 6));
  for (const auto what : {Held::What::fetched, Held::What::not_fetched, Held::What::discarded}) {
    nopspan_thread header{};
    header.next = NOPSPAN_MOST_ENTRIES;
    EXPECT_FALSE(is_refused([&](MessageSink& to) { to.on_held({what, 1, header, 2, 3, ""}); }));
    ++header.next;
    EXPECT_TRUE(is_refused([&](MessageSink& to) { to.on_held({what, 1, header, 2, 3, ""}); }));
  }
  EXPECT_TRUE(is_refused([](MessageSink& to) { to.on_held({static_cast<Held::What>(4), 1, {}, 2, 3, ""}); }));
  EXPECT_TRUE(is_refused([](MessageSink& to) { to.on_mark(static_cast<Mark>(0), 1); }));
  EXPECT_FALSE(is_refused([](MessageSink& to) { to.on_mark(Mark::last_lost_held, 1); }));
  EXPECT_TRUE(is_refused([](MessageSink& to) { to.on_mark(static_cast<Mark>(13), 1); }));
  TracerState state;
  state.unattached.unattached.resize(Ledger::kMostUnattached);
  EXPECT_FALSE(is_refused([&](MessageSink& to) { to.on_state(state); }));
  state.unattached.unattached.emplace_back();
  EXPECT_TRUE(is_refused([&](MessageSink& to) { to.on_state(state); }));
}

TEST(MessageCodec, RefusesANumberThatItsFieldDoesNotHold) {
  ByteBuffer bytes;
  message_writer(bytes)->on_gone(1);
  const std::uint64_t pid = std::uint64_t{1} << 32U | 1U;
  std::memcpy(bytes.at(16), &pid, sizeof(pid));
  Lines received;
  EXPECT_THROW(read_messages(bytes.view(), received), Failure);
}

TEST(MessagePipe, KeepsWhatThePipeDoesNotTakeAndSaysWhenItIsFull) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  OpenFile out(ends[0]);
  MessagePipe pipe{OpenFile(ends[1])};
  nopspan_message message{};
  message.kind = NOPSPAN_MESSAGE_BATCH;
  const std::string batch(4096, 'x');
  std::size_t sent = 0;
  for (; pipe.has_room(); ++sent) pipe.messages().on_batch(message, batch);
  EXPECT_GT(sent * batch.size(), std::size_t{1} << 20U);
  ByteBuffer arrived;
  Lines received;
  while (received.all.size() < sent) {
    constexpr std::size_t kPiece = 65536;
    const std::size_t before = arrived.size();
    const ssize_t bytes = ::read(out.get(), arrived.extend(kPiece), kPiece);
    arrived.shrink(before + static_cast<std::size_t>(bytes > 0 ? bytes : 0));
    arrived.remove_front(read_messages(arrived.view(), received));
    pipe.flush();
    ASSERT_TRUE(pipe.is_read());
  }
  EXPECT_TRUE(pipe.has_room());
  EXPECT_EQ(arrived.size(), 0U);
  out.reset();
  signal(SIGPIPE, SIG_IGN);
  pipe.messages().on_gone(1);
  pipe.flush();
  EXPECT_FALSE(pipe.is_read());
  for (std::size_t i = 0; i < sent; ++i) {
    EXPECT_TRUE(pipe.has_room()) << "nobody must wait for room";
    pipe.messages().on_batch(message, batch);
  }
}

TEST(MessagePipe, PassesOnWhatIsWrittenToStderr) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const OpenFile out(ends[0]);
  std::streambuf* const before = std::cerr.rdbuf();
  {
    MessagePipe pipe{OpenFile(ends[1])};
    std::cerr << "one " << 1 << "\ntwo";
    pipe.flush();
    std::cerr << " is whole now\n";
    pipe.end({1, "why"}, std::chrono::seconds(1));
    EXPECT_FALSE(pipe.is_read());
  }
  EXPECT_EQ(std::cerr.rdbuf(), before);
  ByteBuffer arrived;
  char* const to = arrived.extend(4096);
  const ssize_t bytes = ::read(out.get(), to, 4096);
  ASSERT_GT(bytes, 0);
  Lines received;
  read_messages({to, static_cast<std::size_t>(bytes)}, received);
  const std::vector<std::string> expected = {"text one 1\n ", "text two is whole now\n ", "end 1 why "};
  EXPECT_EQ(received.all, expected);
}

TEST(MessagePipe, SaysThatTextsAreLostWhileTheReaderIsStopped) {
  CapturedTexts texts;
  const std::string line(1024, 'x');
  for (int i = 0; i < 1000; ++i) std::cerr << line + "\n";
  const std::string taken = texts.take();
  EXPECT_LT(taken.size(), std::size_t{300} << 10U);
  EXPECT_TRUE(taken.ends_with("nopspan: more messages could not be shown\n"));
  std::cerr << "later\n";
  EXPECT_EQ(texts.take(), "later\n");
}

}  // namespace
}  // namespace nopspan::collector
