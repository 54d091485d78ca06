// SPDX-License-Identifier: Apache-2.0
// What the program and its readers can no longer do. Each test tries it in a child, because it cannot be undone.
#include "host/privileges.h"

#include "host/process_facts.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "sanitizers.h"
#include "temporary_folder.h"

namespace nopspan::collector {
namespace {

// Runs `body` in a child and returns what it returns.
int in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// The errno value of a system call that fails, otherwise 0.
template <class... Arguments>
int error_of(long number, Arguments... arguments) {
  return syscall(number, arguments...) < 0 ? errno : 0;
}

std::string own_status(const char* key) { return process_status(static_cast<std::uint32_t>(getpid()), key); }

std::string no_program[] = {"/bin/true"};

int execute() {
  std::array<char*, 2> words = {no_program[0].data(), nullptr};
  return error_of(SYS_execve, words[0], words.data(), nullptr);
}

TEST(Privileges, ForbidsWhatNoCommandNeeds) {
  const auto failed = [](int wanted, const std::function<int()>& call) {
    return in_child([&] {
             confine({{}, {}, {}});
             return call();
           }) == wanted;
  };
  EXPECT_TRUE(failed(EPERM, execute));
  EXPECT_TRUE(failed(EPERM, [] { return error_of(SYS_socket, AF_INET, SOCK_STREAM, 0); }));
  EXPECT_TRUE(failed(EPERM, [] { return error_of(SYS_socket, AF_NETLINK, SOCK_RAW, 0); }));
  EXPECT_TRUE(failed(EPERM, [] { return error_of(SYS_mount, "none", "/proc", "tmpfs", 0, nullptr); }));
  EXPECT_TRUE(failed(EPERM, [] { return error_of(SYS_setuid, getuid()); }));
  EXPECT_TRUE(failed(EPERM, [] { return error_of(SYS_unshare, 0); }));
  EXPECT_TRUE(failed(EPERM, [] { return error_of(SYS_delete_module, "none", 0); }));
  EXPECT_TRUE(failed(EPERM, [] { return error_of(SYS_kexec_load, 0, 0, nullptr, 0); }));
  EXPECT_TRUE(failed(EPERM, [] { return error_of(SYS_process_vm_writev, getpid(), nullptr, 0, nullptr, 0, 0); }));
  EXPECT_TRUE(failed(ENOSYS, [] { return error_of(SYS_clone3, nullptr, 0); }));
  // The leak checker needs it.
  const int for_ptrace = kAddressSanitizer ? 0 : EPERM;
  EXPECT_TRUE(failed(for_ptrace, [] { return error_of(SYS_ptrace, PTRACE_TRACEME, 0, nullptr, nullptr); }));
}

TEST(Privileges, PermitsWhatTheProgramNeeds) {
  EXPECT_EQ(in_child([] {
              confine({{}, {}, {}});
              int error = error_of(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
              std::thread([&] { error |= open("/dev/null", O_WRONLY | O_CLOEXEC) < 0; }).join();
              return error;
            }),
            0);
}

TEST(Privileges, PermitsTheInternetToThoseThatNeedIt) {
  const auto error_with_network = [](int family, int type) {
    return in_child([&] {
      Needs needs;
      needs.network = true;
      confine(needs);
      return error_of(SYS_socket, family, type, 0);
    });
  };
  EXPECT_EQ(error_with_network(AF_INET, SOCK_STREAM), 0);
  EXPECT_EQ(error_with_network(AF_INET6, SOCK_STREAM), 0);
  EXPECT_EQ(error_with_network(AF_NETLINK, SOCK_RAW), 0);
  EXPECT_EQ(error_with_network(AF_UNIX, SOCK_STREAM), 0);
  EXPECT_EQ(error_with_network(AF_PACKET, SOCK_RAW), EPERM);
  EXPECT_EQ(error_with_network(AF_VSOCK, SOCK_STREAM), EPERM);
}

TEST(Privileges, KeepsTheCapabilitiesThatAreNeeded) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_EQ(in_child([] {
              confine({{Capability::sys_ptrace}, {}, {}});
              const std::string kept = "0000000000080000";
              const std::string none(16, '0');
              return own_status("CapEff") == kept && own_status("CapPrm") == kept && own_status("CapInh") == none &&
                             own_status("CapBnd") == none && own_status("CapAmb") == none &&
                             own_status("NoNewPrivs") == "1"
                         ? 0
                         : 1;
            }),
            0);
}

TEST(Privileges, KeepsACapabilityThatAFileNeeds) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const TemporaryFolder folder;
  const std::string file = folder / "spans.rec";
  close(open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  const auto kept = [&](const Needs& needs) {
    return in_child([&] {
      confine(needs);
      return (has_capability(Capability::dac_override) ? 1 : 0) +
             (has_capability(Capability::dac_read_search) ? 2 : 0) + (has_capability(Capability::fowner) ? 4 : 0);
    });
  };
  EXPECT_EQ(kept({{}, {file}, {file}}), 0);
  const std::string parent = std::filesystem::path(file).parent_path();
  ASSERT_EQ(chown(file.c_str(), 65534, 65534), 0);
  EXPECT_EQ(kept({{}, {file}, {}}), 2);
  ASSERT_EQ(chown(parent.c_str(), 65534, 65534), 0);
  ASSERT_EQ(chmod(parent.c_str(), 0755), 0);
  EXPECT_EQ(kept({{}, {}, {file}}), 1);
  ASSERT_EQ(chmod(parent.c_str(), 01777), 0);
  EXPECT_EQ(kept({{}, {}, {file}}), 4);
  EXPECT_EQ(kept({{}, {}, {folder / "new.rec", "-", ""}}), 0);
}

TEST(Privileges, AReaderOnlyReads) {
  const auto failed = [](const std::function<int()>& call) {
    return in_child([&] {
             confine_reader();
             return call();
           }) == ENOSYS;
  };
  EXPECT_TRUE(failed(execute));
  EXPECT_TRUE(failed([] { return error_of(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY); }));
  EXPECT_TRUE(failed([] { return error_of(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR); }));
  EXPECT_TRUE(failed([] { return error_of(SYS_openat, AT_FDCWD, "/tmp", O_TMPFILE | O_RDWR, 0600); }));
  EXPECT_TRUE(failed([] { return error_of(SYS_write, STDERR_FILENO, "", 0); }));
  EXPECT_TRUE(failed([] { return error_of(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }));
  EXPECT_TRUE(failed([] { return error_of(SYS_kill, getpid(), 0); }));
  EXPECT_TRUE(failed([] { return error_of(SYS_ptrace, PTRACE_TRACEME, 0, nullptr, nullptr); }));
  EXPECT_TRUE(failed([] { return error_of(SYS_clone, 0, nullptr, nullptr, nullptr, nullptr); }));
  EXPECT_TRUE(failed(
      [] { return error_of(SYS_mmap, nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }));
  EXPECT_EQ(in_child([] {
              confine_reader();
              return error_of(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC);
            }),
            0);
}

}  // namespace
}  // namespace nopspan::collector
