// SPDX-License-Identifier: Apache-2.0
#include "stream/message_pipe.h"

#include "base/failure.h"
#include "model/service.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <iterator>
#include <tuple>
#include <type_traits>
#include <vector>

namespace nopspan::collector {

namespace {

constexpr std::size_t kWord = sizeof(std::uint64_t);
constexpr std::size_t kMessageHead = 2 * kWord;
// Of a message whose size is wrong, not more than this is waited for.
constexpr std::size_t kMostMessageBytes = std::size_t{1} << 30U;

constexpr std::size_t padded(std::size_t bytes) { return (bytes + kWord - 1) / kWord * kWord; }

template <class Field>
constexpr bool is_number = std::is_arithmetic_v<Field> || std::is_enum_v<Field>;
template <class Field>
constexpr bool is_text = std::is_convertible_v<const Field&, std::string_view>;
// Whether each_field() below says what is in it. Others are written as they are in memory.
template <class Io, class Field>
concept HasFields = requires(Io& io, Field& field) {
  each_field(io, field);
};

// A message that is being written.
class MessageOut {
 public:
  MessageOut(ByteBuffer& out, std::uint64_t kind) : out_(out), begin_(out.size()) { (*this)(kind, 0); }
  ~MessageOut() {
    const std::uint64_t size = out_.size() - begin_;
    std::memcpy(out_.at(begin_ + kWord), &size, kWord);
  }
  MessageOut(const MessageOut&) = delete;
  MessageOut& operator=(const MessageOut&) = delete;

  template <class... Fields>
  void operator()(const Fields&... fields) {
    (put(fields), ...);
  }

 private:
  template <class Field>
  void put(const Field& field) {
    if constexpr (is_number<Field>) {
      const auto number = static_cast<std::uint64_t>(field);
      std::memcpy(out_.extend(kWord), &number, kWord);
    } else if constexpr (is_text<Field>) {
      const std::string_view text = field;
      put(text.size());
      put_bytes(text);
    } else if constexpr (HasFields<MessageOut, const Field>) {
      each_field(*this, field);
    } else {
      static_assert(std::is_trivially_copyable_v<Field>);
      put_bytes({reinterpret_cast<const char*>(&field), sizeof(field)});
    }
  }
  template <class Element>
  void put(const std::vector<Element>& list) {
    put(list.size());
    for (const Element& element : list) put(element);
  }
  void put(const ProcessPointer& process) { put(*process); }
  void put_bytes(std::string_view bytes) {
    char* const to = out_.extend(padded(bytes.size()));
    if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
    std::memset(to + bytes.size(), 0, padded(bytes.size()) - bytes.size());
  }

  ByteBuffer& out_;
  const std::size_t begin_;
};

// The fields of a message that is being read.
class MessageIn {
 public:
  explicit MessageIn(std::string_view fields) : rest_(fields) {}

  template <class... Fields>
  void operator()(Fields&... fields) {
    (take(fields), ...);
  }
  // The next field.
  template <class Field>
  Field next() {
    Field field{};
    take(field);
    return field;
  }
  [[noreturn]] static void fail() { throw Failure("a message of the tracing process is malformed"); }

 private:
  template <class Field>
  void take(Field& field) {
    if constexpr (is_number<Field>) {
      std::uint64_t number = 0;
      std::memcpy(&number, take_bytes(kWord).data(), kWord);
      field = static_cast<Field>(number);
      if (static_cast<std::uint64_t>(field) != number) fail();
    } else if constexpr (is_text<Field>) {
      field = take_bytes(next<std::uint64_t>());
    } else if constexpr (HasFields<MessageIn, Field>) {
      each_field(*this, field);
    } else {
      static_assert(std::is_trivially_copyable_v<Field>);
      std::memcpy(&field, take_bytes(sizeof(field)).data(), sizeof(field));
    }
  }
  // Each element has bytes of its own. So if the length is wrong, the list ends with the message.
  template <class Element>
  void take(std::vector<Element>& list) {
    for (auto left = next<std::uint64_t>(); left > 0; --left) take(list.emplace_back());
  }
  void take(ProcessPointer& process) { process = std::make_shared<const Process>(next<Process>()); }
  std::string_view take_bytes(std::uint64_t bytes) {
    if (bytes > rest_.size() || padded(bytes) > rest_.size()) fail();
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(padded(bytes));
    return taken;
  }

  std::string_view rest_;
};

// ---- The fields of each message and of what is in them, in their order, for both directions.

template <class Type, class Message>
concept Is = std::is_same_v<std::remove_const_t<Type>, Message>;

void each_field(auto& io, Is<Process> auto& process) {
  io(process.pid, process.namespace_pid, process.start_ticks, process.instance, process.clock_offset_ns,
     process.claimed_by);
  for (const auto text : kProcessTexts) io(process.*text);
  if constexpr (std::is_same_v<std::remove_reference_t<decltype(io)>, MessageIn>) {
    set_service(process, std::move(process.service_name), std::move(process.resource_attributes));
  }
}
void each_field(auto& io, Is<Unattached> auto& one) { io(one.pid, one.path, one.comm, one.why); }
void each_field(auto& io, Is<TracerStart> auto& start) { io(start.unknown, start.clock, start.same_numbers); }
void each_field(auto& io, Is<AttachChange> auto& change) { io(change.time_ns, change.begins, change.has_attached); }
void each_field(auto& io, Is<Described> auto& one) { io(one.pid, one.has_begun, one.process); }
void each_field(auto& io, Is<Begun> auto& begun) {
  io(begun.pid, begun.time_ns, begun.running_threads, begun.are_all_known, begun.gate_address, begun.dropped,
     begun.threads);
}
void each_field(auto& io, Is<Held> auto& held) {
  io(held.what, held.pid, held.header, held.address, held.time_ns, held.bytes);
}
void each_field(auto& io, Is<LibraryDropped> auto& one) { io(one.pid, one.gate_address, one.dropped, one.time_ns); }
void each_field(auto& io, Is<AllLosses> auto& all) { io(all.time_ns, all.others, all.processes, all.threads); }
void each_field(auto& io, Is<Closed> auto& closed) { io(closed.pid, closed.lost_held, closed.is_reused); }
void each_field(auto& io, Is<ForgottenThreads> auto& threads) { io(threads.pid, threads.sequence_ids); }
void each_field(auto& io, Is<TracerState> auto& state) {
  auto& ledger = state.unattached;
  io(state.processes, state.reader_restarts, state.is_cut, state.remark, ledger.unattached_others, ledger.unattached);
}
void each_field(auto& io, Is<PackedOpenSpans> auto& open) {
  io(open.pid, open.user, open.library, open.error, open.bytes);
}
void each_field(auto& io, Is<OpenSpansRead> auto& read) { io(read.time_unix_ns, read.time_ns, read.skipped); }
void each_field(auto& io, Is<TracerEnd> auto& end) { io(end.status, end.message); }

// ---- The limits that the tracing process checks, whatever the traced ones do. Only one that was taken over sends
// more.

template <class Field>
bool is_within_limits(const Field& /*field*/) {
  return true;
}
template <>
bool is_within_limits(const nopspan_message& message) {
  return message.kind >= NOPSPAN_MESSAGE_BATCH && message.kind <= NOPSPAN_MESSAGE_EXEC &&
         message.next - message.first <= NOPSPAN_MOST_ENTRIES;  // also false if `next` is below `first`
}
template <>
bool is_within_limits(const Held& held) {
  return held.what >= Held::What::fetched && held.what <= Held::What::discarded &&
         held.header.next - held.header.first <= NOPSPAN_MOST_ENTRIES;
}
template <>
bool is_within_limits(const Mark& mark) {
  return mark >= Mark::attaching && mark <= Mark::last_lost_held;
}
template <>
bool is_within_limits(const TracerState& state) {
  return state.unattached.unattached.size() <= Ledger::kMostUnattached;
}

// Reads the arguments of a function of the sink, and calls it.
template <class... Arguments>
void pass_to(MessageSink& to, MessageIn& in, void (MessageSink::*on)(Arguments...)) {
  const std::tuple<std::remove_cvref_t<Arguments>...> fields{in.next<std::remove_cvref_t<Arguments>>()...};
  if (!std::apply([](const auto&... each) { return (is_within_limits(each) && ...); }, fields)) MessageIn::fail();
  std::apply([&](const auto&... each) { (to.*on)(each...); }, fields);
}
template <auto kFunction>
void pass_on(MessageSink& to, MessageIn& in) {
  pass_to(to, in, kFunction);
}

// By the kind of the message. The first is 1.
constexpr void (*kPassOn[])(MessageSink& to, MessageIn& in) = {
    pass_on<&MessageSink::on_start>,     pass_on<&MessageSink::on_batch>,   pass_on<&MessageSink::on_clock>,
    pass_on<&MessageSink::on_attach>,    pass_on<&MessageSink::on_process>, pass_on<&MessageSink::on_begun>,
    pass_on<&MessageSink::on_held>,      pass_on<&MessageSink::on_dropped>, pass_on<&MessageSink::on_losses>,
    pass_on<&MessageSink::on_gone>,      pass_on<&MessageSink::on_closed>,  pass_on<&MessageSink::on_forgotten>,
    pass_on<&MessageSink::on_mark>,      pass_on<&MessageSink::on_state>,   pass_on<&MessageSink::on_open>,
    pass_on<&MessageSink::on_open_read>, pass_on<&MessageSink::on_text>,    pass_on<&MessageSink::on_end>};

template <auto kFunction>
constexpr std::uint64_t kind_of() {
  constexpr const auto* kFound = std::find(std::begin(kPassOn), std::end(kPassOn), pass_on<kFunction>);
  static_assert(kFound != std::end(kPassOn), "it is not in the table");
  return static_cast<std::uint64_t>(kFound - kPassOn) + 1;
}

class MessageWriter final : public MessageSink {
 public:
  explicit MessageWriter(ByteBuffer& out) : out_(out) {}

  void on_start(const TracerStart& start) override { send<&MessageSink::on_start>(start); }
  void on_batch(const nopspan_message& message, std::string_view bytes) override {
    send<&MessageSink::on_batch>(message, bytes);
  }
  void on_clock(const ClockSample& sample) override { send<&MessageSink::on_clock>(sample); }
  void on_attach(const AttachChange& change) override { send<&MessageSink::on_attach>(change); }
  void on_process(const Described& described) override { send<&MessageSink::on_process>(described); }
  void on_begun(const Begun& begun) override { send<&MessageSink::on_begun>(begun); }
  void on_held(const Held& held) override { send<&MessageSink::on_held>(held); }
  void on_dropped(const LibraryDropped& dropped) override { send<&MessageSink::on_dropped>(dropped); }
  void on_losses(const AllLosses& losses) override { send<&MessageSink::on_losses>(losses); }
  void on_gone(std::uint32_t pid) override { send<&MessageSink::on_gone>(pid); }
  void on_closed(const Closed& closed) override { send<&MessageSink::on_closed>(closed); }
  void on_forgotten(const ForgottenThreads& forgotten) override { send<&MessageSink::on_forgotten>(forgotten); }
  void on_mark(Mark mark, std::uint64_t time_ns) override { send<&MessageSink::on_mark>(mark, time_ns); }
  void on_state(const TracerState& state) override { send<&MessageSink::on_state>(state); }
  void on_open(const PackedOpenSpans& open) override { send<&MessageSink::on_open>(open); }
  void on_open_read(const OpenSpansRead& read) override { send<&MessageSink::on_open_read>(read); }
  void on_text(std::string_view text) override { send<&MessageSink::on_text>(text); }
  void on_end(const TracerEnd& end) override { send<&MessageSink::on_end>(end); }

 private:
  template <auto kFunction, class... Fields>
  void send(const Fields&... fields) {
    MessageOut(out_, kind_of<kFunction>())(fields...);
  }

  ByteBuffer& out_;
};

}  // namespace

std::unique_ptr<MessageSink> message_writer(ByteBuffer& out) { return std::make_unique<MessageWriter>(out); }

std::size_t read_messages(std::string_view bytes, MessageSink& to, std::size_t most) {
  std::size_t read = 0;
  for (; most > 0 && bytes.size() - read >= kMessageHead; --most) {
    MessageIn head(bytes.substr(read, kMessageHead));
    const auto kind = head.next<std::uint64_t>(), size = head.next<std::uint64_t>();
    if (size < kMessageHead || size > kMostMessageBytes || size % kWord != 0) MessageIn::fail();
    if (size > bytes.size() - read) break;
    MessageIn fields(bytes.substr(read + kMessageHead, size - kMessageHead));
    if (kind == 0 || kind > std::size(kPassOn)) MessageIn::fail();
    kPassOn[kind - 1](to, fields);
    read += size;
  }
  return read;
}

CapturedTexts::CapturedTexts() : before_(std::cerr.rdbuf(this)) {}

CapturedTexts::~CapturedTexts() { std::cerr.rdbuf(before_); }

std::string CapturedTexts::take() {
  const std::lock_guard lock(mutex_);
  const std::size_t end = text_.rfind('\n') + 1;  // 0 if there is none
  std::string lines = text_.substr(0, end);
  text_.erase(0, end);
  if (!lines.empty() && std::exchange(has_lost_, false)) lines += "nopspan: more messages could not be shown\n";
  return lines;
}

CapturedTexts::int_type CapturedTexts::overflow(int_type character) {
  const char text = traits_type::to_char_type(character);
  return xsputn(&text, 1) == 1 ? character : traits_type::eof();
}

std::streamsize CapturedTexts::xsputn(const char* text, std::streamsize size) {
  const std::lock_guard lock(mutex_);
  if (text_.size() < kMost) {
    text_.append(text, static_cast<std::size_t>(size));
  } else {
    has_lost_ = true;
  }
  return size;
}

void MessagePipe::flush() {
  if (kept() < kMostKept) pass_texts();
  write();
}

void MessagePipe::pass_texts() {
  if (const std::string text = texts_.take(); !text.empty()) writer_->on_text(text);
}

void MessagePipe::write() {
  is_blocked_ = false;
  while (pipe_ && kept() > 0) {
    const ssize_t bytes = ::write(pipe_.get(), buffer_.at(written_), kept());
    if (bytes < 0 && errno == EINTR) continue;
    is_blocked_ = bytes < 0 && errno == EAGAIN;
    if (is_blocked_) break;
    if (bytes < 0) pipe_.reset();
    if (bytes > 0) written_ += static_cast<std::size_t>(bytes);
  }
  if (kept() == 0 || !pipe_) {
    buffer_.clear();
    written_ = 0;
  } else if (written_ >= kMostKept) {
    buffer_.remove_front(std::exchange(written_, 0));
  }
}

void MessagePipe::wait(int milliseconds) const {
  pollfd writable{pipe_.get(), POLLOUT, 0};
  poll(&writable, 1, milliseconds);
}

void MessagePipe::end(const TracerEnd& end, std::chrono::milliseconds most) {
  constexpr int kLookMilliseconds = 20;
  pass_texts();
  writer_->on_end(end);
  const auto latest = std::chrono::steady_clock::now() + most;
  for (write(); kept() > 0 && std::chrono::steady_clock::now() < latest; write()) wait(kLookMilliseconds);
  pipe_.reset();
}

}  // namespace nopspan::collector
