// SPDX-License-Identifier: Apache-2.0
#include "host/privileges.h"

#include "base/new_file.h"
#include "base/text_output.h"
#include "host/process_facts.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string_view>

namespace nopspan::collector {
namespace {

// With these calls a process becomes another user, starts programs, changes other processes or the system, or avoids a
// seccomp filter. The program may do all others: a list of what it may do would kill it if a new libc used a new call.
constexpr const char* kForbidden[] = {
    // programs and other processes
    "execve", "execveat", "ptrace", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp", "userfaultfd",
    // users and namespaces
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid",
    "unshare", "setns",
    // mounts
    "mount", "umount", "umount2", "pivot_root", "chroot", "mount_setattr", "move_mount", "open_tree", "fsopen",
    "fsconfig", "fsmount", "fspick", "swapon", "swapoff", "quotactl", "quotactl_fd", "open_by_handle_at",
    // the kernel and the host
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "syslog", "acct",
    "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime", "sethostname", "setdomainname", "iopl",
    "ioperm", "mknod", "mknodat", "add_key", "request_key", "keyctl", "vhangup", "nfsservctl", "lookup_dcookie",
    // a filter cannot see the calls that are made through it
    "io_uring_setup", "io_uring_enter", "io_uring_register"};

// The leak checker of AddressSanitizer needs ptrace. gcc and clang say in different ways that it is there.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kHasLeakChecker = true;
#elif defined(__has_feature)
constexpr bool kHasLeakChecker = __has_feature(address_sanitizer);
#else
constexpr bool kHasLeakChecker = false;
#endif

// Families of sockets below this number are permitted or refused one by one. getaddrinfo() uses AF_NETLINK.
constexpr int kFamilies = AF_NETLINK + 1;

// All that the reader may call. Calls with conditions are added in code.
constexpr const char* kReaderMay[] = {
    // files
    "close", "fcntl", "fstat", "fstatfs", "getdents64", "inotify_add_watch", "lseek", "lstat", "memfd_create",
    "newfstatat", "pread64", "read", "readlink", "readlinkat", "readv", "stat", "statfs", "statx",
    // other processes
    "pidfd_open", "process_vm_readv",
    // the socket to the program
    "poll", "ppoll", "recvfrom", "recvmsg", "sendmsg", "sendto",
    // memory, time and itself
    "brk", "clock_gettime", "exit", "exit_group", "futex", "getpid", "getrandom", "gettid", "madvise", "mremap",
    "munmap", "restart_syscall", "rt_sigprocmask", "rt_sigreturn", "sched_yield",
    "sigaltstack"};  // the last one by sanitizers, when an exception is thrown

struct Release {
  void operator()(void* filter) const { seccomp_release(filter); }
};
using FilterPointer = std::unique_ptr<void, Release>;

// See confinement_problem() and inherited_limits().
std::string problem;
Inherited inherited;

// A system call that this architecture or libseccomp does not know needs no rule.
template <class... Conditions>
int add_rule(const FilterPointer& filter, std::uint32_t action, const char* name, Conditions... conditions) {
  const int number = seccomp_syscall_resolve_name(name);
  if (number == __NR_SCMP_ERROR) return 0;
  if constexpr (sizeof...(conditions) == 0) {
    return seccomp_rule_add_array(filter.get(), action, number, 0, nullptr);
  } else {
    const scmp_arg_cmp all[] = {conditions...};
    return seccomp_rule_add_array(filter.get(), action, number, sizeof...(conditions), all);
  }
}

// True if the bits `mask` of an argument are `value`.
scmp_arg_cmp has_bits(unsigned argument, std::uint64_t mask, std::uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

// libseccomp also sets NO_NEW_PRIVS. Returns 0 or a negative errno value.
int load(const FilterPointer& filter) {
  // Before Linux 5.16, a filter made all memory accesses slower without the first of these.
  seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_SSB, 1);
  seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  seccomp_attr_set(filter.get(), SCMP_FLTATR_API_SYSRAWRC, 1);
  return seccomp_load(filter.get());
}

int forbid_for_program(bool with_network) {
  const FilterPointer filter(seccomp_init(SCMP_ACT_ALLOW));
  if (!filter) return -ENOMEM;
  constexpr std::uint32_t kRefuse = SCMP_ACT_ERRNO(EPERM);
  int error = 0;
  const auto check = [&error](int result) { error = error == 0 ? result : error; };
  for (const char* name : kForbidden) {
    if (kHasLeakChecker && std::string_view(name) == "ptrace") continue;
    check(add_rule(filter, kRefuse, name));
  }
  for (const char* name : {"socket", "socketpair"}) {
    if (!with_network) {
      check(add_rule(filter, kRefuse, name, scmp_arg_cmp{0, SCMP_CMP_NE, AF_UNIX, 0}));
      continue;
    }
    for (int family = 0; family < kFamilies; ++family) {
      if (family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK) continue;
      check(add_rule(filter, kRefuse, name, scmp_arg_cmp{0, SCMP_CMP_EQ, static_cast<scmp_datum_t>(family), 0}));
    }
    check(add_rule(filter, kRefuse, name, scmp_arg_cmp{0, SCMP_CMP_GE, kFamilies, 0}));
  }
  // clone3 has its flags in memory, where a filter cannot see them. libc uses clone instead.
  check(add_rule(filter, kRefuse, "clone", has_bits(0, CLONE_NEWUSER, CLONE_NEWUSER)));
  check(add_rule(filter, SCMP_ACT_ERRNO(ENOSYS), "clone3"));
  return error != 0 ? error : load(filter);
}

bool may(const std::string& path, int mode) {
  return faccessat(AT_FDCWD, path.c_str(), mode, AT_EACCESS) == 0 || errno != EACCES;
}

// A new file replaces one that is regular. All others are written to.
bool may_write(const std::string& path) {
  const FileKind kind = kind_of_file(path);
  if (kind != FileKind::none && kind != FileKind::regular) return may(path, W_OK);
  const std::string folder = std::filesystem::path(path).parent_path();
  return may(folder.empty() ? "." : folder, W_OK | X_OK);
}

// Whether a file of another user would be replaced in a sticky folder of another user, such as /tmp.
bool is_protected(const std::string& path) {
  std::string folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  struct stat file = {};
  struct stat parent = {};
  return lstat(path.c_str(), &file) == 0 && S_ISREG(file.st_mode) && stat(folder.c_str(), &parent) == 0 &&
         (parent.st_mode & S_ISVTX) != 0 && file.st_uid != geteuid() && parent.st_uid != geteuid();
}

bool is_path(const std::string& path) { return !path.empty() && path != "-"; }

void report(const char* what, int error) { problem = std::string(what) + ": " + std::strerror(error); }

}  // namespace

std::string to_string(Capability capability) {
  return upper_case(std::string("CAP_") + capng_capability_to_name(static_cast<unsigned>(capability)));
}

bool has_capability(Capability capability) {
  return capng_get_caps_process() == 0 &&
         capng_have_capability(CAPNG_EFFECTIVE, static_cast<unsigned>(capability)) != 0;
}

bool limit_capabilities(const std::vector<Capability>& effective, const std::vector<Capability>& permitted) {
  if (capng_get_caps_process() != 0) return false;
  const auto is_in = [](const std::vector<Capability>& set, unsigned number) {
    return std::find(set.begin(), set.end(), static_cast<Capability>(number)) != set.end();
  };
  std::vector<unsigned> kept;
  for (unsigned number = 0; number <= CAP_LAST_CAP; ++number)
    if (is_in(permitted, number) && capng_have_capability(CAPNG_PERMITTED, number) != 0) kept.push_back(number);
  const bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
  capng_clear(CAPNG_SELECT_BOTH);
  for (const unsigned number : kept) {
    capng_update(CAPNG_ADD, CAPNG_PERMITTED, number);
    if (is_in(effective, number)) capng_update(CAPNG_ADD, CAPNG_EFFECTIVE, number);
  }
  return capng_apply(may_bound ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) == 0;
}

std::vector<Capability> tracing_capabilities(bool with_sys_admin) {
  std::vector<Capability> all = {Capability::bpf,
                                 Capability::perfmon,
                                 Capability::sys_ptrace,
                                 Capability::dac_read_search,
                                 Capability::checkpoint_restore,
                                 Capability::lease};
  if (with_sys_admin) all.push_back(Capability::sys_admin);
  return all;
}

void confine(const Needs& needs) {
  if (!inherited.seccomp.empty()) return;
  rest_standard_outputs();
  const auto own = static_cast<std::uint32_t>(getpid());
  inherited = {process_status(own, "Seccomp"), process_status(own, "NoNewPrivs")};
  // At first, only those are effective that the command needs in any case. What its files need is added one by one.
  std::vector<Capability> kept = needs.capabilities, possible = kept;
  possible.insert(possible.end(),
                  {Capability::dac_override, Capability::dac_read_search, Capability::fowner, Capability::sys_ptrace});
  limit_capabilities(kept, possible);
  const auto add_until = [&](std::initializer_list<Capability> more, const auto& is_possible) {
    for (const Capability capability : more) {
      if (is_possible()) break;
      kept.push_back(capability);
      limit_capabilities(kept, possible);
    }
  };
  for (const std::string& path : needs.reads) {
    if (!is_path(path)) continue;
    // The path may lead through /proc/PID/root, which CAP_SYS_PTRACE permits.
    add_until({Capability::dac_read_search, Capability::sys_ptrace}, [&] { return may(path, R_OK); });
  }
  for (const std::string& path : needs.writes) {
    if (!is_path(path)) continue;
    add_until({Capability::dac_override, Capability::sys_ptrace}, [&] { return may_write(path); });
    add_until({Capability::fowner}, [&] { return !is_protected(path); });
  }
  if (!limit_capabilities(kept, kept)) report("capabilities cannot be given up", errno);
  if (const int error = forbid_for_program(needs.network); error != 0)
    report("system calls cannot be forbidden", -error);
}

void confine_children() {
  const std::vector<Capability> kept = {Capability::sys_ptrace, Capability::dac_read_search,
                                        Capability::checkpoint_restore};
  limit_capabilities(kept, kept);
}

void confine_reader() {
  // With ENOSYS, libc uses an older call if there is one.
  const FilterPointer filter(seccomp_init(SCMP_ACT_ERRNO(ENOSYS)));
  if (!filter) return;
  int error = 0;
  const auto check = [&error](int result) { error = error == 0 ? result : error; };
  for (const char* name : kReaderMay) check(add_rule(filter, SCMP_ACT_ALLOW, name));
  constexpr std::uint64_t kWrites = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;
  check(add_rule(filter, SCMP_ACT_ALLOW, "open", has_bits(1, kWrites, 0)));
  check(add_rule(filter, SCMP_ACT_ALLOW, "openat", has_bits(2, kWrites, 0)));
  for (const char* name : {"mmap", "mprotect"})
    check(add_rule(filter, SCMP_ACT_ALLOW, name, has_bits(2, PROT_EXEC, 0)));
  if (error == 0) load(filter);
}

const std::string& confinement_problem() { return problem; }

const Inherited& inherited_limits() { return inherited; }

}  // namespace nopspan::collector
