// SPDX-License-Identifier: Apache-2.0
#include "host/process_reader.h"

#include "base/failure.h"
#include "host/privileges.h"
#include "host/process_facts.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <new>
#include <utility>

extern "C" {
#include <sys/pidfd.h>  // without extern "C" in glibc 2.36
}

namespace nopspan::collector {
namespace {

// A reader that neither runs nor is switched to for two of these is blocked.
constexpr int kPauseMilliseconds = 50;
// The longest time for one request. It is counted in pauses, because a time would include one in which the program and
// the reader were stopped (Ctrl-Z).
constexpr int kMostPauses = 20;
constexpr std::uint64_t kMostBytes = 64U << 20U;
constexpr char kHidden[] = "many of its threads have ended, and none that runs was found";
// The address space of a reader beyond that of the program. A hostile ELF file makes libelf use 150 MiB.
constexpr rlim_t kMostMemory = 256U << 20U;

struct RequestHead {
  ReaderWork work;
  std::uint64_t start_ticks, size;
  std::uint32_t pid;
};
// The spawner's request and answer.
struct Birth {
  std::uint32_t request, pid;
};
struct AnswerHead {
  std::uint64_t size;
  int error;
  bool has_file;
};

// Sends or receives at most `size` bytes, `more` (only sends) and a descriptor. Returns what sendmsg(2) or recvmsg(2)
// returns.
ssize_t message(bool is_send, int socket, void* bytes, std::size_t size, OpenFile* received, int sent,
                std::string_view more = {}) {
  std::array<iovec, 2> data{iovec{bytes, size}, iovec{const_cast<char*>(more.data()), more.size()}};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  msghdr header{};
  header.msg_iov = data.data();
  header.msg_iovlen = more.empty() ? 1 : 2;
  if (!is_send || sent >= 0) {
    header.msg_control = room.data();
    header.msg_controllen = is_send ? room.size() : CMSG_LEN(sizeof(int));  // not room for two
  }
  if (is_send && sent >= 0) {
    cmsghdr* control = CMSG_FIRSTHDR(&header);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(control), &sent, sizeof(int));
  }
  ssize_t result = 0;
  do {
    result = is_send ? sendmsg(socket, &header, MSG_NOSIGNAL) : recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (result < 0 && errno == EINTR);
  if (is_send || result < 0) return result;
  const cmsghdr* control = CMSG_FIRSTHDR(&header);
  if (control != nullptr && control->cmsg_type == SCM_RIGHTS && control->cmsg_len == CMSG_LEN(sizeof(int))) {
    int file = -1;
    std::memcpy(&file, CMSG_DATA(control), sizeof(int));
    OpenFile owned(file);
    if (received != nullptr) *received = std::move(owned);
  }
  return result;
}

bool is_ready(const OpenFile& file, int milliseconds = 0) {
  pollfd wanted{file.get(), POLLIN, 0};
  return poll(&wanted, 1, milliseconds) > 0;
}

// ---- The children. They end without a word, because this program reports what they did not do.

[[noreturn]] void end_child() { _exit(0); }

// Keeps only `socket`. Standard output must not stay open in a child that cannot be killed, because its reader waits
// for the end. The signals of a terminal or of systemd are for the program, which still reads while it stops.
void become_child(const char* name, pid_t parent, int socket) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) end_child();
  prctl(PR_SET_NAME, name);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) signal(number, SIG_IGN);
  const int kept = 3;
  if (socket != kept && dup2(socket, kept) < 0) end_child();
  close_range(kept + 1, ~0U, 0);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    close(standard);
    open("/dev/null", O_RDWR);
  }
}

// The head is sent together with the bytes that follow it, so that the receiver is woken once.
void child_send(void* head, std::size_t size, int file = -1, std::string_view bytes = {}) {
  ssize_t sent = message(true, 3, head, size, nullptr, file, bytes) - static_cast<ssize_t>(size);
  while (sent >= 0 && static_cast<std::size_t>(sent) < bytes.size()) {
    bytes.remove_prefix(static_cast<std::size_t>(sent));
    sent = send(3, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  if (sent < 0) end_child();
}

void child_receive(void* bytes, std::size_t size, OpenFile* file = nullptr) {
  for (auto* at = static_cast<char*>(bytes); size > 0;) {
    const ssize_t got = message(false, 3, at, size, file, -1);
    if (got <= 0) end_child();
    at += got;
    size -= static_cast<std::size_t>(got);
  }
}

// The process that was read last. Its pid cannot be reused while the pidfd shows that it runs. `thread` is the one that
// is read (thread_to_read()). If that is not the main thread, it may end at any time, so it is looked for each time.
struct Last {
  std::uint32_t pid = 0, thread = 0;
  std::uint64_t start_ticks = 0;
  OpenFile process;
  bool hides_threads = false;

  bool is(const RequestHead& wanted) {
    if (pid != wanted.pid || thread != pid || hides_threads || !process || is_ready(process)) {
      process.reset(pidfd_open(static_cast<pid_t>(wanted.pid), 0));
      const auto state = process_state(wanted.pid);
      if (!process || !state || is_ready(process)) return false;
      pid = wanted.pid;
      thread = state->thread;
      start_ticks = state->start_ticks;
      hides_threads = state->hides_threads;
    }
    return wanted.start_ticks == 0 || wanted.start_ticks == start_ticks;
  }
  // Returns whether there is another thread to read, because the last one has ended.
  bool has_other_thread() {
    const auto state = process_state(pid);
    hides_threads = state && state->hides_threads;
    return state && std::exchange(thread, state->thread) != thread;
  }
};

Answer work_on(const RequestHead& head, std::string_view request, OpenFile file, Last& last) {
  if (head.pid != 0 && !last.is(head)) return {ESRCH, "", OpenFile()};
  try {
    if (head.pid == 0) return head.work(0, request, std::move(file));
    Answer answer = head.work(last.thread, request, std::move(file));
    if (answer.error == ESRCH && last.has_other_thread()) answer = head.work(last.thread, request, OpenFile());
    if (last.hides_threads) return {ECHILD, "", OpenFile()};
    if (!is_ready(last.process)) return answer;
  } catch (const std::bad_alloc&) {
    return {ENOMEM, "", OpenFile()};
  }
  return {ESRCH, "", OpenFile()};
}

[[noreturn]] void be_reader() {
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  // If there is too little memory, the reader is killed first, because it can be replaced.
  const OpenFile score(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (write(score.get(), "1000", 4) < 0) {
    // The order is then left to the kernel.
  }
  const std::uint64_t pages = std::strtoull(read_small_file("/proc/self/statm").c_str(), nullptr, 10);
  const rlim_t memory = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + kMostMemory;
  const rlimit limit{memory, memory};
  setrlimit(RLIMIT_AS, &limit);
  confine_reader();
  Last last;
  std::string request;
  while (true) {
    RequestHead head{};
    OpenFile file;
    child_receive(&head, sizeof(head), &file);
    request.resize(head.size);
    child_receive(request.data(), request.size());
    Answer answer = work_on(head, request, std::move(file), last);
    AnswerHead reply{answer.bytes.size(), answer.error, static_cast<bool>(answer.file)};
    child_send(&reply, sizeof(reply), answer.file.get(), answer.bytes);
  }
}

// SIGCHLD is ignored, so the kernel removes readers that have ended.
[[noreturn]] void be_spawner() {
  confine_children();
  const pid_t own = getpid();
  while (true) {
    OpenFile socket;
    Birth birth{};
    child_receive(&birth, sizeof(birth), &socket);
    birth.pid = static_cast<std::uint32_t>(fork());
    if (birth.pid == 0) {
      become_child("nopspan-reader", own, socket.get());
      be_reader();
    }
    socket.reset();  // before the answer: from then on, the socket shows whether the reader runs
    const OpenFile process(pidfd_open(static_cast<pid_t>(birth.pid), 0));
    child_send(&birth, sizeof(birth), process.get());
  }
}

// Never destroyed, because a thread may still use it at the end of the program.
std::unique_ptr<ProcessReader>& program_reader() {
  static auto& reader = *new std::unique_ptr<ProcessReader>;
  return reader;
}

}  // namespace

ProcessReader::ProcessReader(std::function<Clock::time_point()> now) : now_(std::move(now)) {
  std::array<int, 2> ends{-1, -1};
  const pid_t own = getpid();
  pid_t spawner = -1;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0) {
    spawner_.reset(ends[0]);
    const OpenFile theirs(ends[1]);
    spawner = fork();
    if (spawner == 0) {
      become_child("nopspan-spawner", own, theirs.get());
      be_spawner();
    }
  }
  // Two processes are started, perhaps on a host that is overloaded, which is why nopspan is started.
  constexpr int kStartMilliseconds = 10'000;
  if (spawner < 0 || !next_reader(kStartMilliseconds))
    throw Failure("cannot start the process that reads other processes: " + errno_text(errno));
}

bool ProcessReader::next_reader(int most_milliseconds) {
  std::array<int, 2> ends{-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return false;
  Reader reader;
  reader.socket.reset(ends[0]);
  const OpenFile theirs(ends[1]);
  fcntl(reader.socket.get(), F_SETFL, O_NONBLOCK);
  Birth birth{++births_, 0};
  const auto check = [](ssize_t bytes) {
    if (bytes != sizeof(Birth))
      throw Failure("the process that reads other processes (nopspan-spawner) was killed. Start nopspan again");
  };
  check(message(true, spawner_.get(), &birth, sizeof(birth), nullptr, theirs.get()));
  // An answer that came too late for an earlier request is skipped.
  do {
    reader.process.reset();
    errno = ETIMEDOUT;
    if (!is_ready(spawner_, most_milliseconds)) return false;
    check(message(false, spawner_.get(), &birth, sizeof(birth), &reader.process, -1));
  } while (birth.request != births_);
  errno = birth.pid == UINT32_MAX ? EAGAIN : EMFILE;  // the fork failed, or there was no room for the descriptor
  if (!reader.process) return false;
  reader.pid = birth.pid;
  reader_ = std::move(reader);
  return true;
}

bool ProcessReader::is_left_alone(const Target& target) {
  const std::lock_guard lock(mutex_);
  std::erase_if(killed_, [](const Reader& reader) { return is_ready(reader.process); });
  const auto now = now_();
  for (const Reader& reader : killed_) left_alone_.prolong(reader.target.pid, reader.target.start_ticks, now);
  if (left_alone_.has(target.pid, target.start_ticks, now)) return true;
  if (!left_alone_.has_users(now) && killed_.empty()) return false;
  const std::uint32_t user = target.pid == 0 ? kNoUser : user_of(target.pid);
  std::vector<std::uint32_t> blocked;
  for (const Reader& reader : killed_) blocked.push_back(reader.target.user);
  return (target.pid != 0 && left_alone_.has_user(user, now)) || !may_block(blocked, user);
}

// A reader that blocks in one read is not switched to. One that waits for a CPU or a disk makes progress.
bool ProcessReader::makes_progress() {
  if (++pauses_ > kMostPauses) return false;
  if (process_status(reader_.pid, "State").starts_with('R')) return true;
  const std::string switches = process_status(reader_.pid, "voluntary_ctxt_switches");
  return std::exchange(last_switches_, switches) != switches;
}

bool ProcessReader::wait(short events) {
  while (true) {
    pollfd wanted{reader_.socket.get(), events, 0};
    const int ready = poll(&wanted, 1, kPauseMilliseconds);
    if (ready > 0) return true;
    if (ready == 0 && !makes_progress()) return false;
  }
}

ProcessReader::Outcome ProcessReader::transfer(bool is_send, char* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t done =
        is_send ? send(reader_.socket.get(), bytes, size, MSG_NOSIGNAL) : recv(reader_.socket.get(), bytes, size, 0);
    if (done == 0 || (done < 0 && errno != EAGAIN && errno != EINTR)) return Outcome::ended;
    if (done > 0) {
      bytes += done;
      size -= static_cast<std::size_t>(done);
    } else if (errno == EAGAIN && !wait(is_send ? POLLOUT : POLLIN)) {
      return Outcome::blocked;
    }
  }
  return Outcome::done;
}

ProcessReader::Outcome ProcessReader::exchange(const Target& target, ReaderWork work, std::string_view request,
                                               int file, Answer& answer) {
  pauses_ = 0;
  last_switches_.clear();
  RequestHead head{};
  head.work = work;
  head.start_ticks = target.pid == 0 ? 0 : target.start_ticks;
  head.size = request.size();
  head.pid = target.pid;
  // The reader has read the last request, so there is room for this head.
  const ssize_t sent = message(true, reader_.socket.get(), &head, sizeof(head), nullptr, file, request);
  if (sent < static_cast<ssize_t>(sizeof(head))) return Outcome::ended;
  request.remove_prefix(static_cast<std::size_t>(sent) - sizeof(head));
  const Outcome outcome = transfer(true, const_cast<char*>(request.data()), request.size());  // only read
  if (outcome != Outcome::done) return outcome;
  AnswerHead reply{};
  if (!wait(POLLIN)) return Outcome::blocked;
  if (message(false, reader_.socket.get(), &reply, sizeof(reply), &answer.file, -1) != sizeof(reply) ||
      reply.size > kMostBytes)
    return Outcome::ended;
  answer.error = reply.has_file && !answer.file ? EMFILE : reply.error;
  answer.bytes.resize(reply.size);
  return transfer(false, answer.bytes.data(), answer.bytes.size());
}

LeftAlone ProcessReader::leave_alone(const Target& target, const char* why) {
  LeftAlone process;
  process.pid = target.pid;
  process.why = why;
  process.start_ticks = target.start_ticks;
  process.user = kNoUser;
  if (target.pid != 0) {
    const auto state = process_state(target.pid);
    process.start_ticks = state ? state->start_ticks : target.start_ticks;
    process.comm = state ? state->comm : "";
    process.user = user_of(target.pid);
  }
  const std::lock_guard lock(mutex_);
  left_alone_.add(process, now_());
  return process;
}

void ProcessReader::give_up(const Target& target, const char* why) {
  reader_.target = leave_alone(target, why);
  pidfd_send_signal(reader_.process.get(), SIGKILL, nullptr, 0);
  reader_.socket.reset();
  killed_.push_back(std::exchange(reader_, Reader()));
}

std::vector<LeftAlone> ProcessReader::left_alone() const {
  const std::lock_guard lock(mutex_);
  return left_alone_.all();
}

// A reader parses what programs may have made hostile, so its crash may be an attack.
void ProcessReader::note_restart(const Target& target) {
  if (restarts_++ > 0) return;
  std::cerr << "nopspan: the process that reads other processes (nopspan-reader) was killed or crashed, and is "
               "replaced. It was asked to read " +
                   (target.pid == 0 ? "a file" : "process " + std::to_string(target.pid)) +
                   ". Further times are only counted\n";
}

Answer ProcessReader::run(const Target& wanted, ReaderWork work, std::string_view request, int file) {
  Target target = wanted;
  // Users choose where a path in their own folder leads to, so only the other paths in this folder are left alone too.
  if (target.pid == 0) target.start_ticks = std::hash<std::string_view>()(request.substr(0, request.rfind('/'))) | 1U;
  if (is_left_alone(target)) return {EAGAIN, "", OpenFile()};
  // A reader may have been killed by somebody else since the last request. If two of them end, it is the target's
  // fault.
  for (int attempt = 0; attempt < 2; ++attempt) {
    constexpr int kMostMilliseconds = 1000;
    if (reader_.pid == 0 && !next_reader(kMostMilliseconds)) return {errno == EMFILE ? EMFILE : EIO, "", OpenFile()};
    Answer answer;
    const Outcome outcome = exchange(target, work, request, file, answer);
    if (outcome == Outcome::done && answer.error == ECHILD) leave_alone(target, kHidden);
    if (outcome == Outcome::done) return answer;
    if (outcome == Outcome::blocked) {
      give_up(target, "a read of it blocked for 100 ms");
      return {ETIMEDOUT, "", OpenFile()};
    }
    note_restart(target);
    if (attempt == 0) reader_ = Reader();
  }
  give_up(target, "the process that read it crashed");
  return {ETIMEDOUT, "", OpenFile()};
}

void require_descriptors(std::size_t files) {
  for (std::vector<OpenFile> opened; opened.size() < files;) {
    opened.emplace_back(open("/", O_PATH | O_CLOEXEC));
    if (!opened.back()) throw Failure(errno_text(errno));
  }
}

void start_process_reader() {
  if (program_reader() != nullptr) return;
  require_proc();
  // Each file with probes takes at least one descriptor, so the usual soft limit of 1024 is soon reached.
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  require_descriptors(12);  // for the children, and for the files that they and this program read
  program_reader() = std::make_unique<ProcessReader>();
}

Answer read_process(const Target& target, ReaderWork work, std::string_view request, int file) {
  if (program_reader() != nullptr) return program_reader()->run(target, work, request, file);
  return work(target.pid == 0 ? 0 : thread_to_read(target.pid), request,
              OpenFile(file < 0 ? -1 : fcntl(file, F_DUPFD_CLOEXEC, 0)));
}

std::vector<LeftAlone> processes_left_alone() {
  return program_reader() == nullptr ? std::vector<LeftAlone>() : program_reader()->left_alone();
}

std::uint64_t reader_restarts() { return program_reader() == nullptr ? 0 : program_reader()->restarts(); }

std::string read_error_text(int error) {
  if (error == ETIMEDOUT || error == EAGAIN) return "reads of it blocked, so it is left alone for a while";
  if (error == ECHILD) return kHidden;
  return errno_text(error);
}

}  // namespace nopspan::collector
