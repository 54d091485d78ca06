// SPDX-License-Identifier: Apache-2.0
// Finding files with probes and their processes. This process and its children are such processes.
#include "host/host.h"

#include "base/failure.h"
#include "host/cgroup.h"
#include "host/host_name.h"
#include "host/known_files.h"
#include "host/maps.h"
#include "host/mounts.h"
#include "host/process_facts.h"
#include "host/process_memory.h"
#include "host/process_reader.h"
#include "temporary_folder.h"

#include <nopspan/detail/gate.h>
#include <nopspan/span.h>
#include <nopspan/version.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::HasSubstr;

const std::string kLibrary = NOPSPAN_LIBRARY;
const std::string kVersion = std::to_string(NOPSPAN_VERSION_MAJOR) + "." + std::to_string(NOPSPAN_VERSION_MINOR) + "." +
                             std::to_string(NOPSPAN_VERSION_PATCH);

std::uint32_t own_pid() { return static_cast<std::uint32_t>(getpid()); }

std::string copy_library(const std::string& path) {
  std::filesystem::copy_file(kLibrary, path);
  return path;
}

const Host::Copy* copy_of(Host& host, std::uint32_t pid, const std::string& path) {
  const auto& copies = host.copies(pid);
  const auto found =
      std::find_if(copies.begin(), copies.end(), [&](const Host::Copy& copy) { return copy.path == path; });
  return found == copies.end() ? nullptr : &*found;
}

bool is_in(const std::vector<Host::Found>& files, const std::string& path) {
  return std::any_of(files.begin(), files.end(), [&](const Host::Found& found) { return found.path == path; });
}

// The files that are or were at a path, in the order in which they were found.
std::vector<ProbeFilePointer> files_at(Host& host, const std::string& path) {
  std::vector<ProbeFilePointer> files;
  for (const Host::Found& found : host.files().attachable())
    if (found.path == path) files.push_back(found.file);
  return files;
}

// Scans until a condition is true.
void scan_until(Host& host, const std::function<bool()>& is_so) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (host.scan_completely(), !is_so()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "waited in vain";
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// A child process, which lives until the test ends it.
class Child {
 public:
  // Calls `run` in the child, and returns when that is done. The child then waits.
  explicit Child(const std::function<void()>& run = [] {}) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error("socketpair");
    socket_.reset(ends[0]);
    OpenFile theirs(ends[1]);
    pid_ = fork();
    char byte = 0;
    if (pid_ == 0) {
      socket_.reset();
      run();
      if (write(theirs.get(), &byte, 1) != 1 || read(theirs.get(), &byte, 1) < 0) _exit(1);
      _exit(0);
    }
    theirs.reset();
    is_ready_ = read(socket_.get(), &byte, 1) == 1;
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { end(); }

  [[nodiscard]] std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }
  [[nodiscard]] bool is_ready() const { return is_ready_; }
  void end() {
    if (pid_ == 0) return;
    socket_.reset();
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
  OpenFile socket_;
  bool is_ready_ = false;
};

void load(const std::string& path) {
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) _exit(1);
}

// A copy of the library, which a child can load.
struct HostTest : testing::Test {
  TemporaryFolder folder;
  const std::string path = copy_library(folder / "libnopspan.so.0.3");
  Host host;
};

TEST(Host, FindsThisProgramAndItsGate) {
  const nopspan::Span span{"test.host"};
  Host host;
  const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
  host.scan_completely();
  const Host::Copy* copy = copy_of(host, own_pid(), program);
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(copy->gate_address, reinterpret_cast<std::uint64_t>(nopspan_gate_ptr));
  EXPECT_FALSE(copy->is_deleted);
  EXPECT_THAT(host.pids(), testing::Contains(own_pid()));
  EXPECT_TRUE(is_in(host.files().attachable(), program));
}

TEST(Host, DescribesAProcess) {
  Host host;
  host.scan_completely();
  const ProcessPointer process = host.process(own_pid());
  EXPECT_EQ(process->pid, own_pid());
  EXPECT_EQ(process->library_version, kVersion);
  EXPECT_EQ(process->library, process->executable);
  EXPECT_THAT(process->executable, HasSubstr(process->comm));
  EXPECT_NE(process->start_ticks, 0U);
  EXPECT_FALSE(process->host.empty());
  EXPECT_EQ(host.process(own_pid()), process) << "the same object";
}

TEST_F(HostTest, FindsALibraryThatAKnownProcessLoads) {
  int go[2];
  ASSERT_EQ(pipe2(go, O_CLOEXEC), 0);
  const Child child([&] {
    // On a thread of its own, so that the child reports before it happens.
    std::thread([&] {
      char byte = 0;
      if (read(go[0], &byte, 1) == 1) load(path);
    }).detach();
  });
  host.scan_completely();
  ASSERT_EQ(copy_of(host, child.pid(), path), nullptr);
  ASSERT_EQ(write(go[1], "g", 1), 1);
  scan_until(host, [&] {
    const Host::Copy* copy = copy_of(host, child.pid(), path);
    return copy != nullptr && copy->gate_address != 0;
  });
  close(go[0]);
  close(go[1]);
}

TEST_F(HostTest, BoundsTheCopiesOfAProcess) {
  const auto gate = static_cast<off_t>(ProbeFile::read(open_regular(path))->gate().offset / 4096 * 4096);
  const Child child([&] {
    load(path);
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < 1000; ++i)
      static_cast<void>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, gate));
  });
  host.scan_completely();
  EXPECT_EQ(host.copies(child.pid()).size(), 64U);
  const auto skipped = host.skipped();
  EXPECT_TRUE(std::any_of(skipped.begin(), skipped.end(), [&](const Unattached& each) {
    return each.pid == child.pid() && each.why.find("too many copies") != std::string::npos;
  }));
}

TEST_F(HostTest, LooksAtOnceAtAProcessThatItIsToldOf) {
  const Child child([&] { load(path); });
  host.note_pid(child.pid());
  host.scan_noted();
  EXPECT_TRUE(is_in(host.files().attachable(), path));
  EXPECT_EQ(host.pids(), std::vector<std::uint32_t>{child.pid()});
}

TEST_F(HostTest, FindsAFileThatWasDeleted) {
  const Child child([&] { load(path); });
  ASSERT_EQ(unlink(path.c_str()), 0);
  host.scan_completely();
  const Host::Copy* copy = copy_of(host, child.pid(), path);
  if (copy == nullptr) GTEST_SKIP() << "needs CAP_CHECKPOINT_RESTORE";
  EXPECT_TRUE(copy->is_deleted);
  EXPECT_TRUE(is_in(host.files().attachable(), path));
  EXPECT_EQ(contents_of(copy->file->attach_path()), contents_of(kLibrary));
}

TEST(HostName, IsTheFirstLineOfTheFileThatIsAName) {
  EXPECT_EQ(name_in_hostname_file("node7\n"), "node7");
  EXPECT_EQ(name_in_hostname_file("# set by DHCP, see hostname(5)\n\n \n\t node7 \nnode8\n"), "node7");
  EXPECT_EQ(name_in_hostname_file("node7"), "node7");
  EXPECT_EQ(name_in_hostname_file("localhost7\n"), "localhost7");
  for (const char* text : {"", "\n\n", "# node7\n", "localhost\n", "localhost.localdomain\n"})
    EXPECT_EQ(name_in_hostname_file(text), "") << text;
}

TEST(Environment, GivesTheValuesOfTheNamesAlone) {
  // /proc/PID/environ shows the environment with which a program was started.
  const pid_t pid = fork();
  if (pid == 0) {
    const std::string large = "OTEL_RESOURCE_ATTRIBUTES=" + std::string(5000, 'a');
    const char* const arguments[] = {"sleep", "100", nullptr};
    const char* const environment[] = {"XOTEL_SERVICE_NAME=wrong",
                                       "OTEL_SERVICE_NAME=check=out",
                                       large.c_str(),
                                       "OTEL_SERVICE_NAME=second",
                                       "SECRET=1",
                                       nullptr};
    execve("/bin/sleep", const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
    _exit(1);
  }
  const auto read = [&] {
    return environment_of(static_cast<std::uint32_t>(pid), {"OTEL_SERVICE_NAME", "NONE", "OTEL_RESOURCE_ATTRIBUTES"});
  };
  while (read()[0].empty() || process_facts(static_cast<std::uint32_t>(pid)).comm != "sleep") usleep(1000);
  EXPECT_THAT(read(), testing::ElementsAre("check=out", "", std::string(4096, 'a')));
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  EXPECT_THAT(read(), testing::ElementsAre("", "", ""));
}

TEST_F(HostTest, FindsTheSameThroughTheChildThatReads) {
  start_process_reader();
  const Child child([&] { load(path); });
  host.scan_completely();
  const Host::Copy* copy = copy_of(host, child.pid(), path);
  ASSERT_NE(copy, nullptr);
  EXPECT_NE(copy->gate_address, 0U);
  EXPECT_EQ(copy->file->probes(), ProbeFile::read(open_regular(path))->probes());
  EXPECT_EQ(contents_of(copy->file->attach_path()), contents_of(kLibrary));
  EXPECT_EQ(host.copies(child.pid()).size(), 2U) << "the program's own, and the library's";
  EXPECT_EQ(host.process(child.pid())->library_version, kVersion);
  copy_library(folder / "new");
  ASSERT_EQ(rename((folder / "new").c_str(), path.c_str()), 0);
  host.scan_noted();
  EXPECT_EQ(files_at(host, path).size(), 2U) << "its folder is watched";
}

TEST_F(HostTest, AttachesOnceToAFileUnderTwoNames) {
  const std::string second = folder / "libother.so";
  ASSERT_EQ(link(path.c_str(), second.c_str()), 0);
  const Child one([&] { load(path); });
  const Child other([&] { load(second); });
  host.scan_completely();
  EXPECT_NE(is_in(host.files().attachable(), path), is_in(host.files().attachable(), second));
  EXPECT_EQ(copy_of(host, one.pid(), path)->file, copy_of(host, other.pid(), second)->file);
}

TEST_F(HostTest, KnowsAllRealUsersOfAFile) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  constexpr uid_t kNobody = 65534;
  const Child one([&] { load(path); });
  const Child other([&] {
    load(path);
    // The owner of its files in /proc is still root, because it is not dumpable now.
    if (setresuid(kNobody, kNobody, kNobody) != 0) _exit(1);
  });
  ASSERT_TRUE(one.is_ready() && other.is_ready());
  std::set<std::uint32_t> users;
  scan_until(host, [&] {
    for (const Host::Found& each : host.files().attachable()) {
      if (each.path == path) users = each.users;
    }
    return users.size() == 2;
  });
  EXPECT_EQ(users, (std::set<std::uint32_t>{0, kNobody}));
}

TEST_F(HostTest, SeesALibraryThatReplacesAKnownOneBeforeAnybodyMapsIt) {
  const Child child([&] { load(path); });
  host.scan_completely();
  const ProbeFilePointer old = copy_of(host, child.pid(), path)->file;
  copy_library(folder / "new");
  host.scan_noted();
  EXPECT_EQ(files_at(host, path).size(), 1U);
  ASSERT_EQ(rename((folder / "new").c_str(), path.c_str()), 0);
  host.scan_noted();
  const std::vector<ProbeFilePointer> files = files_at(host, path);
  ASSERT_EQ(files.size(), 2U) << "a process still maps the old one";
  EXPECT_EQ(files[0], old);
  EXPECT_FALSE(files[1]->is_same_inode(*old));
}

TEST_F(HostTest, DropsAFileThatNobodyCanMapAnyMore) {
  Child child([&] { load(path); });
  host.scan_completely();
  const ProbeFilePointer file = copy_of(host, child.pid(), path)->file;
  ASSERT_EQ(unlink(path.c_str()), 0);
  child.end();
  EXPECT_TRUE(host.files().may_be_attached(*file));
  scan_until(host, [&] { return !host.files().may_be_attached(*file); });
}

// Opens a file for writing, which may have to wait.
class Writer {
 public:
  explicit Writer(const std::string& path)
      : opened_(std::async(std::launch::async, [path] { return open(path.c_str(), O_WRONLY | O_CLOEXEC); })) {}
  [[nodiscard]] bool waits() const { return opened_.wait_for(std::chrono::seconds(0)) != std::future_status::ready; }
  OpenFile file() { return OpenFile(opened_.get()); }

 private:
  std::future<int> opened_;
};

struct LeasedFile : HostTest {
  LeasedFile() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGIO);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    host.files().add(path);
    host.files().begin_leases();
    host.scan_completely();
  }
  // Lets the writer in, as a program does that has detached from the file.
  OpenFile let_in(Writer& writer) {
    pollfd writers{host.files().writers_fd(), POLLIN, 0};
    EXPECT_EQ(poll(&writers, 1, 60'000), 1);
    EXPECT_TRUE(host.files().make_way());
    EXPECT_FALSE(is_in(host.files().attachable(), path));
    EXPECT_TRUE(is_in(host.files().written(), path));
    EXPECT_TRUE(writer.waits());
    host.files().let_writers_in();
    return writer.file();
  }

  ProbeFilePointer file_now() {
    const auto files = files_at(host, path);
    return files.empty() ? nullptr : files.front();
  }
};

TEST_F(LeasedFile, MakesWayForAWriter) {
  const ProbeFilePointer before = file_now();
  ASSERT_NE(before, nullptr);
  EXPECT_FALSE(host.files().make_way());
  Writer writer(path);
  {
    const OpenFile opened = let_in(writer);
    ASSERT_TRUE(opened);
    host.scan_completely();
    EXPECT_FALSE(is_in(host.files().attachable(), path)) << "it is still open";
    EXPECT_FALSE(host.files().may_be_attached(*before));
  }
  host.scan_completely();
  EXPECT_EQ(file_now(), before) << "nothing was written";
  EXPECT_TRUE(host.files().may_be_attached(*before));
}

TEST_F(LeasedFile, IsForgottenIfItHasOtherContentAfterwards) {
  const ProbeFilePointer before = file_now();
  Writer writer(path);
  {
    const OpenFile opened = let_in(writer);
    ASSERT_EQ(ftruncate(opened.get(), 100), 0);
  }
  host.scan_completely();
  EXPECT_FALSE(is_in(host.files().attachable(), path));
  EXPECT_FALSE(host.files().may_be_attached(*before));
}

TEST_F(LeasedFile, IsReadAgainIfOnlyTheTimeOfItsChangeShowsThatItWasWrittenTo) {
  const ProbeFilePointer before = file_now();
  struct stat status {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  Writer writer(path);
  {
    const OpenFile opened = let_in(writer);
    std::string text(std::filesystem::file_size(path), '\0');
    ASSERT_TRUE(std::ifstream(path, std::ios::binary).read(text.data(), static_cast<std::streamsize>(text.size())));
    const std::size_t name = text.find(std::string("nopspan_batch\0", 14));
    ASSERT_NE(name, std::string::npos);
    ASSERT_EQ(pwrite(opened.get(), "another", 7, static_cast<off_t>(name)), 7);
    const timespec times[] = {status.st_atim, status.st_mtim};
    ASSERT_EQ(futimens(opened.get(), times), 0);
  }
  host.scan_completely();
  EXPECT_NE(file_now(), before);
}

TEST_F(LeasedFile, IsFreeForAWriterThatDoesNotWait) {
  EXPECT_FALSE(OpenFile(open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)));
  EXPECT_EQ(errno, EWOULDBLOCK);
  EXPECT_TRUE(host.files().make_way());
  host.files().let_writers_in();
  host.scan_completely();
  EXPECT_TRUE(OpenFile(open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)));
  scan_until(host, [&] { return is_in(host.files().attachable(), path); });
}

TEST(Mounts, HaveNamesWithAnyBytes) {
  TemporaryFolder folder;
  const std::string point = folder / "a\v-\vext4\vb \\040\r - c";
  ASSERT_EQ(mkdir(point.c_str(), 0700), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", point.c_str(), "tmpfs", 0, nullptr) != 0)
      _exit(77);
    struct stat status {};
    if (stat(point.c_str(), &status) != 0) _exit(1);
    const auto mounts = mounts_of(0, status.st_dev);
    const bool is_right = mounts.size() == 1 && mounts[0].type == "tmpfs" && mounts[0].point == point;
    _exit(is_right && is_idle(status.st_dev) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "needs CAP_SYS_ADMIN";
  EXPECT_EQ(status, 0);
}

TEST_F(LeasedFile, IsFreeAtTheEnd) {
  host.files().end_leases();
  Writer writer(path);
  EXPECT_TRUE(writer.file());
  EXPECT_EQ(host.files().writers_fd(), -1);
}

TEST_F(LeasedFile, IsNotAttachedToWhileItIsOpenForWriting) {
  const std::string other = copy_library(folder / "libnopspan.so.0.4");
  std::optional<std::ofstream> writer(std::in_place, other, std::ios::in);
  host.files().add(other);
  EXPECT_FALSE(is_in(host.files().attachable(), other));
  writer.reset();
  host.scan_completely();
  EXPECT_TRUE(is_in(host.files().attachable(), other));
}

TEST(Host, IsNotFooledByAnInodeNumberThatIsUsedAgain) {
  TemporaryFolder folder;
  Host host;
  struct stat before {};
  {
    const std::string path = folder / "libplain.so";
    std::filesystem::copy_file("/proc/self/exe", path);
    // Damaged, so it has no probes.
    std::filesystem::resize_file(path, 4096);
    ASSERT_EQ(stat(path.c_str(), &before), 0);
    const Child child([&] {
      const int fd = open(path.c_str(), O_RDONLY);
      if (mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED) _exit(1);
    });
    host.scan_completely();
    ASSERT_EQ(unlink(path.c_str()), 0);
  }
  const std::string path = copy_library(folder / "libplain.so");
  struct stat after {};
  ASSERT_EQ(stat(path.c_str(), &after), 0);
  if (before.st_ino != after.st_ino) GTEST_SKIP() << "this file system gave another number";
  const Child child([&] { load(path); });
  host.scan_completely();
  EXPECT_TRUE(is_in(host.files().attachable(), path));
}

// A program may replace a plug-in between two looks.
TEST(Host, IsNotFooledByAnInodeNumberThatIsMappedAgainAtTheSameAddress) {
  TemporaryFolder folder;
  const std::string plain = folder / "libplain.so", library = folder / "lib.so";
  std::ofstream(plain) << std::string(4096, 'x');
  struct stat before {};
  ASSERT_EQ(stat(plain.c_str(), &before), 0);
  const auto map_at = [](const std::string& path, void* address) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    void* const at =
        mmap(address, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | (address == nullptr ? 0 : MAP_FIXED), file, 0);
    close(file);
    return at;
  };
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const Child child([&] {
    void* const address = map_at(plain, nullptr);
    // On a thread of its own, so that the child reports before it happens.
    std::thread([&, address] {
      char byte = 0;
      if (read(ends[1], &byte, 1) != 1) return;
      unlink(plain.c_str());
      munmap(address, 4096);
      copy_library(library);
      map_at(library, address);
      static_cast<void>(write(ends[1], "r", 1));
    }).detach();
  });
  Host host;
  host.scan_completely();
  ASSERT_EQ(write(ends[0], "g", 1), 1);
  char byte = 0;
  ASSERT_EQ(read(ends[0], &byte, 1), 1);
  struct stat after {};
  ASSERT_EQ(stat(library.c_str(), &after), 0);
  for (const int end : ends) close(end);
  if (before.st_ino != after.st_ino) GTEST_SKIP() << "this file system gave another number";
  host.note_pid(child.pid());
  host.scan_completely();
  EXPECT_TRUE(is_in(host.files().attachable(), library));
}

TEST(Host, KeepsWhatItKnowsOfAProcessThatEnded) {
  Host host;
  Child child;
  const std::uint32_t pid = child.pid();
  host.scan_completely();
  const ProcessPointer process = host.process(pid);
  EXPECT_EQ(process->pid, pid);
  child.end();
  host.scan_completely();
  EXPECT_EQ(host.process(pid), process);
  EXPECT_TRUE(host.copies(pid).empty());
}

TEST(Host, KnowsNothingOfAProcessThatNeverWas) {
  Host host;
  EXPECT_EQ(host.process(0x3fffffff)->pid, 0x3fffffffU);
  EXPECT_EQ(host.process(0x3fffffff)->comm, "");
  EXPECT_TRUE(host.copies(0x3fffffff).empty());
}

TEST(Host, ForgetsTheProgramThatAnExecReplaced) {
  Host host;
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const auto pid = static_cast<std::uint32_t>(fork());
  if (pid == 0) {
    char byte = 0;
    if (write(ends[1], "r", 1) != 1 || read(ends[1], &byte, 1) != 1) _exit(1);
    dup2(ends[1], 0);
    dup2(ends[1], 1);
    execl("/bin/cat", "cat", nullptr);
    _exit(1);
  }
  close(ends[1]);
  char byte = 0;
  ASSERT_EQ(read(ends[0], &byte, 1), 1);
  host.scan_completely();
  EXPECT_EQ(host.copies(pid).size(), 1U);
  const ProcessPointer before = host.process(pid);
  ASSERT_EQ(write(ends[0], "ec", 2), 2);
  ASSERT_EQ(read(ends[0], &byte, 1), 1);  // cat is running
  host.scan_completely();
  EXPECT_TRUE(host.copies(pid).empty());
  EXPECT_EQ(host.process(pid)->comm, "cat");
  EXPECT_NE(before->comm, "cat");
  close(ends[0]);
  waitpid(static_cast<pid_t>(pid), nullptr, 0);
}

TEST_F(HostTest, TakesAFileThatNobodyMapsYet) {
  host.files().add(path);
  EXPECT_EQ(files_at(host, path).size(), 1U);
  copy_library(folder / "new");
  ASSERT_EQ(rename((folder / "new").c_str(), path.c_str()), 0);
  host.scan_noted();
  EXPECT_EQ(files_at(host, path).size(), 2U);
}

TEST_F(HostTest, RefusesAFileWithoutProbes) {
  ASSERT_EQ(std::system((NOPSPAN_LLVM_STRIP " '" + path + "'").c_str()), 0);
  const std::pair<std::string, const char*> cases[] = {
      {path, "were stripped"}, {"/bin/sh", "no nopspan probes"}, {folder / "nothing", "No such file"}};
  for (const auto& [file, expected] : cases) {
    try {
      host.files().add(file);
      ADD_FAILURE() << file;
    } catch (const Failure& failure) {
      EXPECT_THAT(failure.what(), HasSubstr(expected));
      EXPECT_EQ(failure.exit_status, Failure::kUsageError);
    }
  }
}

// A mapping of a whole file by this process.
Mapping map_file(const std::string& path) {
  const OpenFile file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  static_cast<void>(mmap(nullptr, std::filesystem::file_size(path), PROT_READ | PROT_EXEC, MAP_PRIVATE, file.get(), 0));
  Mapping found;
  Mappings(own_pid()).for_each([&](const Mapping& mapping) {
    if (mapping.path == path) found = mapping;
    return true;
  });
  found.path = path;  // valid as long as the argument
  return found;
}

class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t most) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit limit{most, before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  ~DescriptorLimit() { setrlimit(RLIMIT_NOFILE, &before_); }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlimit before_{};
};

TEST(Host, DoesNotTakeALackOfDescriptorsForTheEndOfAProcess) {
  Host host;
  host.scan_completely();
  ASSERT_THAT(host.pids(), testing::Contains(own_pid()));
  {
    const DescriptorLimit none(0);
    host.note_pid(own_pid());
    host.scan_some();
  }
  EXPECT_THAT(host.pids(), testing::Contains(own_pid()));
  EXPECT_TRUE(host.has_too_many_files());
}

TEST(KnownFiles, LeaveFilesToOtherUsers) {
  const TemporaryFolder folder;
  std::vector<std::string> paths(20);
  std::vector<Mapping> mappings;
  for (std::string& path : paths) {
    path = copy_library(folder / std::to_string(mappings.size()));
    mappings.push_back(map_file(path));
  }
  const DescriptorLimit limit(96);
  KnownFiles files;
  const auto held = [&] {
    const auto results = files.find(own_pid(), mappings, KnownFiles::Clock::time_point::max());
    for (const KnownFiles::Result& result : results)
      EXPECT_EQ(result.file == nullptr, result.why_not.find("too many files with probes") != std::string::npos);
    return std::count_if(results.begin(), results.end(), [](const auto& result) { return result.file != nullptr; });
  };
  EXPECT_EQ(held(), 12);
  EXPECT_EQ(held(), 12);
  EXPECT_EQ(files.refused().files, 8U) << "each is counted once";
}

TEST(KnownFiles, KeepAFileThatCannotBeReadAgain) {
  const TemporaryFolder folder;
  const std::string path = copy_library(folder / "lib.so");
  const std::vector<Mapping> mappings{map_file(path)};
  KnownFiles files;
  const auto find = [&] { return files.find(own_pid(), mappings, KnownFiles::Clock::time_point::max())[0].file; };
  const ProbeFilePointer file = find();
  ASSERT_NE(file, nullptr);
  files.update(KnownFiles::Clock::now());
  std::filesystem::last_write_time(path, std::filesystem::file_time_type{});
  {
    const DescriptorLimit limit(3);  // poll(2) still works
    EXPECT_EQ(find(), file);
  }
  EXPECT_FALSE(files.update(KnownFiles::Clock::now()));
  EXPECT_EQ(find(), file);
}

TEST(Maps, HaveNamesWithLineFeedsAndBlanks) {
  TemporaryFolder folder;
  const std::string path = folder / "a \n(deleted)\\b";
  write_file(path, std::string(4096, 'x'));
  const int fd = open(path.c_str(), O_RDONLY);
  void* at = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
  std::string found;
  const Mappings mappings(own_pid());
  EXPECT_EQ(mappings.error(), 0);
  mappings.for_each([&](const Mapping& mapping) {
    if (mapping.start == reinterpret_cast<std::uint64_t>(at)) found = unescaped(mapping.path);
    return true;
  });
  EXPECT_EQ(found, path);
  munmap(at, 4096);
  close(fd);
}

// However long its names are.
TEST(Maps, AreAllCounted) {
  constexpr std::size_t kTimes = 3000;
  TemporaryFolder folder;
  std::string path = folder / "";
  while (path.size() < 2000) std::filesystem::create_directory(path += std::string(200, 'n') + "/");
  path += "file";
  write_file(path, std::string(4096, 'x'));
  const OpenFile file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<void*> mappings;
  while (mappings.size() < kTimes) mappings.push_back(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file.get(), 0));
  const Mappings read(own_pid());
  EXPECT_EQ(read.error(), EOVERFLOW);
  std::uint64_t counted = 0;
  for (const Mappings::Crowd& crowd : read.crowds()) {
    if (crowd.id == FileId::of(file.get())) counted = crowd.mappings;
  }
  EXPECT_EQ(counted, kTimes);
  for (void* mapping : mappings) munmap(mapping, 4096);
}

TEST(Maps, TellTheFilesWhoseMappingsAreAmongManyOthers) {
  constexpr std::size_t kPages = 9000, kFew = 4;
  TemporaryFolder folder;
  write_file(folder / "file", std::string(4096, 'x'));
  const OpenFile file(open((folder / "file").c_str(), O_RDONLY | O_CLOEXEC));
  const auto counted = [&file] {
    const Mappings read(own_pid());
    for (const Mappings::Crowd& crowd : read.crowds()) {
      if (crowd.id == FileId::of(file.get())) return std::pair(crowd.mappings, read.all());
    }
    return std::pair<std::uint64_t, std::uint64_t>();
  };
  std::vector<void*> mappings;
  while (mappings.size() < kFew) mappings.push_back(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file.get(), 0));
  EXPECT_EQ(counted().first, 0U);
  char* others = static_cast<char*>(mmap(nullptr, kPages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (std::size_t i = 0; i < kPages; i += 2) mprotect(others + i * 4096, 4096, PROT_READ);
  EXPECT_EQ(counted().first, kFew);
  EXPECT_GE(counted().second, kPages + kFew);
  munmap(others, kPages * 4096);
  for (void* mapping : mappings) munmap(mapping, 4096);
}

TEST(Maps, OfAProcessThatIsGoneAreAnError) { EXPECT_NE(Mappings(0x3fffffff).error(), 0); }

TEST(ContainerId, IsReadFromEachKindOfPath) {
  const std::string id(64, 'a');
  const std::pair<std::string, std::string> cases[] = {
      {"/", ""},
      {"/user.slice/user-1000.slice/session-3.scope", ""},
      {"/system.slice/docker-" + id + ".scope", id},
      {"/docker/" + id, id},
      {"/kubepods/burstable/pod3f1c/" + id, id},
      {"/kubepods.slice/kubepods-pod3f.slice/cri-containerd-" + id + ".scope", id},
      {"/kubepods.slice/kubepods-pod3f.slice/crio-" + id + ".scope/container", id},
      {"/system.slice/containerd.service/kubepods-burstable-pod3f.slice:cri-containerd:" + id, id},
      {"/machine.slice/libpod-" + id + ".scope/container", id},
      {"/machine.slice/libpod-conmon-" + id + ".scope", ""},
      {"/ecs/task/" + std::string(32, 'b') + "-1234567890", std::string(32, 'b') + "-1234567890"},
      {"/lxc/web/init.scope", "web"},
      {"/lxc.payload.web/system.slice/cron.service", "web"},
      {"/docker/" + id + "/docker/" + std::string(64, 'c'), std::string(64, 'c')},
      {"/docker/" + std::string(64, 'z'), ""}};
  for (const auto& [path, expected] : cases) EXPECT_EQ(container_id(path), expected) << path;
}

TEST(CgroupPath, IsThatOfVersion2) {
  EXPECT_EQ(cgroup_path("0::/a/b\n"), "/a/b");
  EXPECT_EQ(cgroup_path("4:memory:/x\n1:name=systemd:/s\n0::/u\n"), "/u");
  EXPECT_EQ(cgroup_path("4:memory:/x\n1:name=systemd:/s\n"), "");
  EXPECT_EQ(cgroup_path(""), "");
}

}  // namespace
}  // namespace nopspan::collector
