// SPDX-License-Identifier: Apache-2.0
#include "live/kernel_programs.h"

#include "base/failure.h"
#include "host/process_facts.h"
#include "host/process_reader.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <collector.skel.h>
#include <linux/bpf.h>
#include <nopspan/probes.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <string>

namespace nopspan::collector {
namespace {

// libbpf's last warnings of this thread. They explain a failure.
thread_local std::string said;

int listen_to_libbpf(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  std::array<char, 1024> line{};
  std::vsnprintf(line.data(), line.size(), format, arguments);
  if (said.size() < 4096) said += line.data();
  return 0;
}

[[noreturn]] void fail(const std::string& what, int error) {
  std::string text = what + ": " + std::strerror(error);
  if (error == EPERM || error == EACCES) {
    text += ". Run nopspan as root, or grant it CAP_BPF and CAP_PERFMON";
  } else if (!said.empty()) {
    text += "\n" + said;
  }
  while (text.ends_with('\n')) text.pop_back();
  throw Failure(text + (text.find('\n') == std::string::npos ? ". " : "\n") +
                "Run `nopspan doctor` to find out what this host lacks.");
}

// The size of a ring buffer must be a power of two and a multiple of the page size.
std::uint32_t ring_bytes(std::uint64_t wanted) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return static_cast<std::uint32_t>(std::bit_ceil(std::clamp<std::uint64_t>(wanted, page, 1U << 30U)));
}

// Sets how programs will be attached, after they were opened and before they are loaded. A kprobe by a perf event needs
// CAP_SYS_ADMIN on Debian's kernels, but a kprobe_multi link does not. Every kernel that has uprobe_multi has it. On
// others, the program keeps CAP_SYS_ADMIN.
void prepare_for_attach(const ::collector& skeleton) {
  if (!has_uprobe_multi()) return;
  bpf_program__set_expected_attach_type(skeleton.progs.on_batch, static_cast<bpf_attach_type>(kUprobeMulti));
  for (bpf_program* program : {skeleton.progs.on_do_exit, skeleton.progs.on_begin_new_exec})
    bpf_program__set_expected_attach_type(program, BPF_TRACE_KPROBE_MULTI);
}

bpf_link* attach_to_function(const bpf_program* program, const char* function) {
  if (!has_uprobe_multi()) return bpf_program__attach(program);
  bpf_kprobe_multi_opts options = {};
  options.sz = sizeof(options);
  options.syms = &function;
  options.cnt = 1;
  return bpf_program__attach_kprobe_multi_opts(program, nullptr, &options);
}

// Visits all elements of a hash map in batches.
template <typename Key, typename Value, typename Each>
void for_each(const bpf_map* map, Each each) {
  constexpr std::uint32_t kAtOnce = 512;
  std::vector<Key> keys(kAtOnce);
  std::vector<Value> values(kAtOnce);
  std::uint64_t position = 0;
  for (bool first = true;; first = false) {
    std::uint32_t count = kAtOnce;
    const int error = bpf_map_lookup_batch(bpf_map__fd(map), first ? nullptr : &position, &position, keys.data(),
                                           values.data(), &count, nullptr);
    if (error != 0 && error != -ENOENT) return;
    for (std::uint32_t i = 0; i < count; ++i) each(keys[i], values[i]);
    if (error != 0) return;
  }
}

// The kernel refuses to load a program with a helper that it does not permit.
bool may_read_kernel() {
  const bpf_insn program[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 1, .src_reg = 10, .off = 0, .imm = 0},
      {.code = BPF_ALU64 | BPF_ADD, .dst_reg = 1, .src_reg = 0, .off = 0, .imm = -8},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .src_reg = 0, .off = 0, .imm = 8},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_CALL, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = BPF_FUNC_probe_read_kernel},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  return static_cast<bool>(OpenFile(
      bpf_prog_load(BPF_PROG_TYPE_KPROBE, "nopspan_read", "Dual BSD/GPL", program, std::size(program), nullptr)));
}

struct Place {
  std::uint32_t type = 0;    // of the member
  std::uint32_t offset = 0;  // in the outermost struct
};

// Finds a member of a struct, or of a struct without a name in it.
std::optional<Place> member_of(const btf* types, std::uint32_t type, std::string_view name) {
  const btf_type* outer = btf__type_by_id(types, type);
  if (outer == nullptr || !btf_is_composite(outer)) return std::nullopt;
  for (std::uint32_t i = 0; i < btf_vlen(outer); ++i) {
    const btf_member& member = btf_members(outer)[i];
    const std::uint32_t offset = btf_member_bit_offset(outer, i) / 8;
    const std::string_view found = btf__name_by_offset(types, member.name_off);
    if (found == name) return Place{member.type, offset};
    if (!found.empty()) continue;
    if (const auto inner = member_of(types, member.type, name)) return Place{inner->type, offset + inner->offset};
  }
  return std::nullopt;
}

class KernelTypes {
 public:
  explicit KernelTypes(const btf* types) : types_(types) {}

  // The offset of a member. `inner` is a member of that member, which is a struct.
  std::uint32_t offset(const char* of, std::string_view name, std::string_view inner = {}) {
    const std::int32_t type = btf__find_by_name_kind(types_, of, BTF_KIND_STRUCT);
    auto place = type < 0 ? std::nullopt : member_of(types_, static_cast<std::uint32_t>(type), name);
    std::uint32_t offset = place ? place->offset : 0;
    if (place && !inner.empty()) {
      place = member_of(types_, place->type, inner);
      offset += place ? place->offset : 0;
    }
    is_whole_ = is_whole_ && place.has_value();
    return offset;
  }
  std::uint32_t size(const char* of) {
    const std::int32_t type = btf__find_by_name_kind(types_, of, BTF_KIND_STRUCT);
    is_whole_ = is_whole_ && type >= 0;
    return type < 0 ? 0 : btf__type_by_id(types_, static_cast<std::uint32_t>(type))->size;
  }
  [[nodiscard]] bool is_whole() const { return is_whole_; }

 private:
  const btf* types_;
  bool is_whole_ = true;
};

// Where the running kernel has what the BPF programs read of tasks in pid namespaces below this program's, from its
// BTF. All zero if the kernel has none, or does not let BPF programs read its memory (lockdown=confidentiality).
nopspan_task_layout find_task_layout() {
  const std::unique_ptr<btf, decltype(&btf__free)> types(btf__load_vmlinux_btf(), btf__free);
  if (!types || !may_read_kernel()) return {};
  KernelTypes layout(types.get());
  nopspan_task_layout found{};
  found.group_leader = layout.offset("task_struct", "group_leader");
  found.thread_pid = layout.offset("task_struct", "thread_pid");
  found.level = layout.offset("pid", "level");
  found.numbers = layout.offset("pid", "numbers");
  found.number_bytes = layout.size("upid");
  found.number = layout.offset("upid", "nr");
  found.space = layout.offset("upid", "ns");
  found.inode = layout.offset("pid_namespace", "ns", "inum");
  return layout.is_whole() ? found : nopspan_task_layout{};
}

}  // namespace

bool is_kernel_before(unsigned major, unsigned minor) {
  utsname name{};
  unsigned have_major = 0, have_minor = 0;
  if (uname(&name) != 0 || std::sscanf(name.release, "%u.%u", &have_major, &have_minor) != 2) return false;
  return have_major != major ? have_major < major : have_minor < minor;
}

bool is_confidential() {
  return read_small_file("/sys/kernel/security/lockdown").find("[confidentiality]") != std::string::npos;
}
const char* const kWithoutConfidentiality =
    "boot with lockdown=integrity, in which BPF programs may read kernel memory, or without lockdown";

nopspan_settings settings_of_namespaces() {
  nopspan_settings settings{};
  // The initial pid namespace has this inode on every machine. Its numbers are the kernel's own.
  constexpr ino_t kFirst = 0xEFFFFFFC;
  struct stat space {};
  if (stat("/proc/self/ns/pid", &space) == 0 && space.st_ino != kFirst) {
    settings.namespace_device = space.st_dev;
    settings.namespace_inode = space.st_ino;
  }
  settings.clock_offset_ns = static_cast<std::uint64_t>(own_clock_offset());
  return settings;
}

KernelPrograms::KernelPrograms(std::uint64_t buffer_bytes, const nopspan_settings& settings, OnMessage on_message)
    : on_message_(std::move(on_message)) {
  // For the maps, the programs and their links. libbpf also opens files to find out what the kernel can do. If it
  // cannot, it takes the kernel for an older one.
  require_descriptors(24);
  libbpf_set_print(listen_to_libbpf);
  said.clear();
  skeleton_ = collector__open();
  if (skeleton_ == nullptr) fail("cannot read the BPF programs", errno);
  bpf_map__set_max_entries(skeleton_->maps.ring, ring_bytes(buffer_bytes));
  skeleton_->rodata->settings = settings;
  skeleton_->rodata->settings.wake_bytes = ring_bytes(buffer_bytes) / 4;
  if (settings.namespace_inode != 0) {
    skeleton_->rodata->settings.layout = find_task_layout();
    sees_below_ = skeleton_->rodata->settings.layout.numbers != 0;
    said.clear();
  }
  prepare_for_attach(*skeleton_);
  if (const int error = collector__load(skeleton_); error != 0) {
    collector__destroy(skeleton_);
    if (is_confidential()) {
      throw Failure(std::string("the kernel refuses nopspan's BPF programs in lockdown=confidentiality: ") +
                    kWithoutConfidentiality);
    }
    fail("cannot load the BPF programs", -error);
  }
  ring_ = ring_buffer__new(bpf_map__fd(skeleton_->maps.ring), on_sample, this, nullptr);
  if (ring_ == nullptr) {
    const int error = errno;
    collector__destroy(skeleton_);
    fail("cannot map the ring buffer", error);
  }
  attach_to_ends();
}

KernelPrograms::~KernelPrograms() {
  ends_.clear();
  ring_buffer__free(ring_);
  collector__destroy(skeleton_);
}

void KernelPrograms::Destroy::operator()(bpf_link* link) const { bpf_link__destroy(link); }

// On kernels whose tracepoint comes too late or does not exist, a kprobe is needed. Not every kernel supports kprobes.
void KernelPrograms::attach_to_ends() {
  const auto keep = [this](bpf_link* link) {
    if (link != nullptr) ends_.emplace_back(link);
    return link != nullptr;
  };
  const auto& programs = skeleton_->progs;
  const bool has_late_exit = is_kernel_before(6, 16);
  const bool kprobe_works = has_late_exit && keep(attach_to_function(programs.on_do_exit, "do_exit"));
  const bool tracepoint_works = keep(bpf_program__attach(programs.on_exit));
  sees_ends_ = has_late_exit ? kprobe_works : tracepoint_works;
  if (!keep(bpf_program__attach(programs.on_prepare_exec))) {
    keep(attach_to_function(programs.on_begin_new_exec, "begin_new_exec"));
  }
  keep(bpf_program__attach(programs.on_exec));
  said.clear();
}

bool KernelPrograms::has_missed_ends() const {
  const auto& programs = skeleton_->progs;
  return std::ranges::any_of(
      std::array{programs.on_exit, programs.on_prepare_exec, programs.on_exec}, [](const bpf_program* program) {
        bpf_prog_info info{};
        std::uint32_t size = sizeof(info);
        return bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0 && info.recursion_misses > 0;
      });
}

OpenFile KernelPrograms::attach(const ProbeFile& file, int pid, WhyNot& why_not) {
  return attach_to_probe(bpf_program__fd(skeleton_->progs.on_batch), file, pid, why_not);
}

int KernelPrograms::on_sample(void* self, void* data, std::size_t size) {
  auto* programs = static_cast<KernelPrograms*>(self);
  const auto* message = static_cast<const nopspan_message*>(data);
  if (size < sizeof(*message) || message->bytes > size - sizeof(*message)) return 0;
  // libbpf is C code, so no exception may pass through it.
  try {
    return programs->on_message_(*message, {reinterpret_cast<const char*>(message + 1), message->bytes}) ? 0
                                                                                                         : -ECANCELED;
  } catch (...) {
    programs->failure_ = std::current_exception();
    return -ECANCELED;
  }
}

void KernelPrograms::consume() {
  ring_buffer__consume(ring_);
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void KernelPrograms::wait(std::initializer_list<int> fds, int milliseconds) {
  std::vector<pollfd> watched{{ring_buffer__epoll_fd(ring_), POLLIN, 0}};
  for (const int fd : fds) watched.push_back({fd, POLLIN, 0});
  __atomic_store_n(&skeleton_->bss->is_waiting, 1, __ATOMIC_SEQ_CST);
  poll(watched.data(), watched.size(), milliseconds);
  __atomic_store_n(&skeleton_->bss->is_waiting, 0, __ATOMIC_SEQ_CST);
}

AllLosses KernelPrograms::losses() {
  AllLosses all;
  for_each<std::uint32_t, nopspan_process_losses>(
      skeleton_->maps.process_losses, [&](std::uint32_t tgid, const auto& losses) {
        all.processes.push_back({tgid, static_cast<std::uint32_t>(losses.pid), std::to_array(losses.entries)});
      });
  for_each<nopspan_thread_key, nopspan_thread_losses>(skeleton_->maps.thread_losses,
                                                      [&](const auto& key, const auto& losses) {
                                                        all.threads.push_back({key, losses});
                                                      });
  all.others = std::to_array(skeleton_->bss->other_losses.entries);
  return all;
}

std::optional<nopspan_thread_losses> KernelPrograms::losses_of(const nopspan_thread_key& key) {
  nopspan_thread_losses losses{};
  if (bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.thread_losses), &key, &losses) != 0) return std::nullopt;
  return losses;
}

void KernelPrograms::forget_process(std::uint32_t tgid) {
  bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.process_losses), &tgid);
}

void KernelPrograms::forget_thread(const nopspan_thread_key& key) {
  bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.thread_losses), &key);
  bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.fetched), &key);
}

void KernelPrograms::note_thread(std::uint32_t pid, std::uint32_t tid, std::uint64_t header) {
  const std::uint64_t id = std::uint64_t{pid} << 32U | tid;
  const int map = bpf_map__fd(skeleton_->maps.threads);
  nopspan_thread_headers headers{};
  bpf_map_lookup_elem(map, &id, &headers);
  for (unsigned long& address : headers.address) {
    if (address == header) return;
    if (address != 0) continue;
    address = header;
    bpf_map_update_elem(map, &id, &headers, BPF_ANY);
    return;
  }
}

bool KernelPrograms::note_fetched(const nopspan_thread_key& key, std::uint64_t next) {
  return bpf_map_update_elem(bpf_map__fd(skeleton_->maps.fetched), &key, &next, BPF_ANY) == 0;
}

bool KernelPrograms::set_cgroup(int folder) {
  const std::uint32_t zero = 0;
  if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.cgroup), &zero, &folder, BPF_ANY) == 0) return true;
  if (errno != ENOENT && errno != ENODEV) fail("cannot set the filter for --cgroup", errno);
  return false;
}

}  // namespace nopspan::collector
