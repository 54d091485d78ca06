// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// The collector's kernel programs. They forward batches when threads flush them, and when a thread ends or executes
// another program, the entries that it still holds.
//
// A batch is read from the process directly into the ring buffer. uprobe programs can be preempted, so no per-CPU
// scratch buffer is used, and every program begins with no_private_stack(). Entries that cannot be forwarded are
// counted, by process and by thread.
//
// Loads on kernels from 5.10 on, without BTF, so it does not use CO-RE. Sizes are 64 bits wide and bounded directly
// before they are used, so that the verifiers of all these kernels know the bound.
#include <asm/ptrace.h>
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include <nopspan/probes.h>
#include "collector_events.h"

// libbpf defines it from 1.2 on. Version 1.1 is supported too.
#ifndef PT_REGS_PARM6
#if defined(__TARGET_ARCH_x86)
#define PT_REGS_PARM6(ctx) ((ctx)->r9)
#elif defined(__TARGET_ARCH_arm64)
#define PT_REGS_PARM6(ctx) (((const struct user_pt_regs*)(ctx))->regs[5])
#endif
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// The collector sets the size before the map is created.
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 24);
} ring SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __type(key, unsigned int);
  __type(value, struct nopspan_process_losses);
} process_losses SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 16384);
  __type(key, struct nopspan_thread_key);
  __type(value, struct nopspan_thread_losses);
} thread_losses SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 32768);
  __type(key, unsigned long);
  __type(value, struct nopspan_thread_headers);
} threads SEC(".maps");

// Written by the collector: the sequence up to which it has fetched a thread's entries.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 32768);
  __type(key, struct nopspan_thread_key);
  __type(value, unsigned long);
} fetched SEC(".maps");

// The cgroup of --cgroup. The collector replaces it if the folder was removed and created again.
struct {
  __uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
  __uint(max_entries, 1);
  __type(key, unsigned int);
  __type(value, unsigned int);
} cgroup SEC(".maps");

const volatile struct nopspan_settings settings = {};

// Set by the collector while it waits. The program that wakes the collector clears it, so that only one program wakes
// it.
unsigned long is_waiting = 0;
unsigned long woken_ns = 0;  // time of the last wake-up
// The losses of processes for which `process_losses` has no room.
struct nopspan_process_losses other_losses = {};

// From Linux 6.13 on, a function with more than 48 bytes of stack has a private stack: one per CPU, for all threads.
// While a thread in a uprobe program is preempted, another thread may run the same program on this CPU, and would
// overwrite that stack. A program with a tail call has no private stacks, because it might call itself. Therefore each
// program has one. It is never executed: the verifier knows this and removes it. Unlike bpf_preempt_disable() it needs
// neither BTF nor Linux 6.10, and costs nothing.
static __always_inline void no_private_stack(void) {
  asm volatile(
      "r0 = 0\n"
      "if r0 == 0 goto +1\n"
      "call %[tail_call]"
      :
      : [tail_call] "i"(BPF_FUNC_tail_call)
      : "r0", "r1", "r2", "r3", "r4", "r5");
}

// The ids of the current thread.
struct task {
  unsigned long id;    // tgid << 32 | tid
  unsigned long seen;  // the same in the collector's pid namespace; 0 if it is not in it or below it: then it is ignored
};

// The kernel's limit of nested pid namespaces.
#define MOST_LEVELS 32

// Reads a pointer of the kernel. Returns 0 if that fails.
static __always_inline unsigned long pointer_at(unsigned long address) {
  unsigned long pointer = 0;
  return bpf_probe_read_kernel(&pointer, sizeof(pointer), (const void*)address) ? 0 : pointer;
}

// Returns the number in the collector's pid namespace of a task in a namespace below it, or 0. A task has a number in
// its own namespace and in each one above.
static __noinline unsigned int number_seen(unsigned long task) {
  const unsigned long pid = pointer_at(task + settings.layout.thread_pid);
  unsigned int level = 0;
  if (bpf_probe_read_kernel(&level, sizeof(level), (const void*)(pid + settings.layout.level))) return 0;
  for (unsigned int above = 1; above < MOST_LEVELS && above <= level; ++above) {
    const unsigned long entry = pid + settings.layout.numbers + (unsigned long)(level - above) * settings.layout.number_bytes;
    unsigned int inode = 0, number = 0;
    bpf_probe_read_kernel(&inode, sizeof(inode), (const void*)(pointer_at(entry + settings.layout.space) + settings.layout.inode));
    if (inode != settings.namespace_inode) continue;
    bpf_probe_read_kernel(&number, sizeof(number), (const void*)(entry + settings.layout.number));
    return number;
  }
  return 0;
}

// The helper knows only tasks whose own namespace is the collector's. If the settings have no inode, the collector's is
// the initial namespace.
static __noinline unsigned long id_seen(unsigned long id) {
  if (!settings.namespace_inode) return id;
  struct bpf_pidns_info info = {};
  if (!bpf_get_ns_current_pid_tgid(settings.namespace_device, settings.namespace_inode, &info, sizeof(info)))
    return (unsigned long)info.tgid << 32 | info.pid;
  if (!settings.layout.numbers) return 0;
  const unsigned long task = bpf_get_current_task();
  const unsigned long pid = number_seen(pointer_at(task + settings.layout.group_leader));
  return pid ? pid << 32 | number_seen(task) : 0;
}

static __always_inline struct task current_task(void) {
  struct task task = {.id = bpf_get_current_pid_tgid()};
  task.seen = id_seen(task.id);
  return task;
}

static __noinline void count_process_loss(const struct task* task, unsigned long reason, unsigned long entries) {
  if (reason >= NOPSPAN_REASONS) return;
  const unsigned int tgid = task->id >> 32;
  struct nopspan_process_losses* losses = bpf_map_lookup_elem(&process_losses, &tgid);
  if (!losses) {
    struct nopspan_process_losses none = {.pid = task->seen >> 32};
    bpf_map_update_elem(&process_losses, &tgid, &none, BPF_NOEXIST);
    losses = bpf_map_lookup_elem(&process_losses, &tgid);
    if (!losses) losses = &other_losses;
  }
  __sync_fetch_and_add(&losses->entries[reason], entries);
}

static __noinline struct nopspan_thread_losses* losses_of(unsigned int tgid, unsigned long sequence_id,
                                                          unsigned long first) {
  struct nopspan_thread_key key = {.tgid = tgid, .sequence_id = sequence_id};
  struct nopspan_thread_losses* losses = bpf_map_lookup_elem(&thread_losses, &key);
  if (losses) return losses;
  struct nopspan_thread_losses none = {.first = first};
  bpf_map_update_elem(&thread_losses, &key, &none, BPF_NOEXIST);
  return bpf_map_lookup_elem(&thread_losses, &key);
}

// Counts the thread's loss before the process's. A reader that reads the process's count first therefore never finds
// more losses there than of the threads.
static __noinline void count_loss(const struct task* task, const struct nopspan_thread* thread, unsigned long reason) {
  const unsigned long entries = thread->next - thread->first;
  struct nopspan_thread_losses* losses = losses_of(task->id >> 32, thread->sequence_id, thread->first);
  if (losses && reason < NOPSPAN_REASONS) {
    losses->discarded = thread->discarded;
    losses->next = thread->next;
    __sync_fetch_and_add(&losses->entries[reason], entries);
  }
  count_process_loss(task, reason, entries);
}

// Returns the flags for bpf_ringbuf_submit(). They wake a waiting collector if the ring buffer holds `wake_bytes`. If
// `is_news`, they wake it also if the last wake-up was more than 2 ms ago, because the collector must examine a new
// process before the process is gone, and look up a new cgroup before much is emitted in it.
static __always_inline unsigned long wake_up(int is_news) {
  if (!is_waiting) return BPF_RB_NO_WAKEUP;
  const unsigned long now = bpf_ktime_get_ns();
  if (!(is_news && now - woken_ns > 2000000) && bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < settings.wake_bytes)
    return BPF_RB_NO_WAKEUP;
  is_waiting = 0;
  woken_ns = now;
  return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void fill(struct nopspan_message* message, unsigned int kind, const struct task* task) {
  __builtin_memset(message, 0, sizeof(*message));
  message->kind = kind;
  message->tgid = task->id >> 32;
  message->tid = task->id;
  message->pid = task->seen >> 32;
  message->time_ns = bpf_ktime_get_ns() + settings.clock_offset_ns;
  message->cgroup = bpf_get_current_cgroup_id();
  bpf_get_current_comm(message->comm, sizeof(message->comm));
}

static __always_inline void fill_thread(struct nopspan_message* message, const struct nopspan_thread* thread,
                                        unsigned long header) {
  message->header = header;
  message->thread_id = thread->thread_id;
  message->sequence_id = thread->sequence_id;
  message->first = thread->first;
  message->next = thread->next;
  message->discarded = thread->discarded;
  message->capacity = thread->capacity;
}

// A batch that a thread flushes, or the entries that it still holds: its address and size.
struct batch {
  struct task task;
  unsigned int kind;
  unsigned long header;
  unsigned long address;
  unsigned long bytes;
};

#define FORWARDED NOPSPAN_REASONS

// One size class. The size of a reservation must be a constant.
#define FORWARD_IF_IT_FITS(SIZE)                                                                              \
  if (batch->bytes <= (SIZE)) {                                                                               \
    struct nopspan_message* message = bpf_ringbuf_reserve(&ring, sizeof(struct nopspan_message) + (SIZE), 0); \
    if (!message) return NOPSPAN_REASON_RING_FULL;                                                            \
    unsigned long bytes = batch->bytes;                                                                       \
    barrier_var(bytes);                                                                                       \
    if (bytes > (SIZE)) bytes = (SIZE);                                                                       \
    if (bpf_probe_read_user(message + 1, bytes, (const void*)batch->address)) {                               \
      bpf_ringbuf_discard(message, BPF_RB_NO_WAKEUP);                                                         \
      return NOPSPAN_REASON_UNREADABLE;                                                                       \
    }                                                                                                         \
    fill(message, batch->kind, &batch->task);                                                                 \
    fill_thread(message, thread, batch->header);                                                              \
    message->bytes = bytes;                                                                                   \
    bpf_ringbuf_submit(message, wake_up(0));                                                                  \
    return FORWARDED;                                                                                         \
  }

// Forwards a batch. Returns FORWARDED, or the reason why it was not forwarded.
static __noinline unsigned long forward(const struct batch* batch, const struct nopspan_thread* thread) {
  if (!batch->bytes) {
    struct nopspan_message* message = bpf_ringbuf_reserve(&ring, sizeof(struct nopspan_message), 0);
    if (!message) return NOPSPAN_REASON_RING_FULL;
    fill(message, batch->kind, &batch->task);
    fill_thread(message, thread, batch->header);
    bpf_ringbuf_submit(message, wake_up(batch->kind == NOPSPAN_MESSAGE_BATCH));
    return FORWARDED;
  }
  FORWARD_IF_IT_FITS(1 << 10)
  FORWARD_IF_IT_FITS(2 << 10)
  FORWARD_IF_IT_FITS(4 << 10)
  FORWARD_IF_IT_FITS(8 << 10)
  FORWARD_IF_IT_FITS(16 << 10)
  FORWARD_IF_IT_FITS(32 << 10)
  FORWARD_IF_IT_FITS(64 << 10)
  FORWARD_IF_IT_FITS(128 << 10)
  return NOPSPAN_REASON_TOO_LARGE;
}

static __noinline void note_header(unsigned long id, unsigned long address) {
  struct nopspan_thread_headers* known = bpf_map_lookup_elem(&threads, &id);
  if (!known) {
    struct nopspan_thread_headers one = {.address = {address}};
    bpf_map_update_elem(&threads, &id, &one, BPF_ANY);
    return;
  }
#pragma unroll
  for (int i = 0; i < NOPSPAN_HEADERS; ++i) {
    if (known->address[i] == address) return;
    if (!known->address[i]) {
      known->address[i] = address;
      return;
    }
  }
  known->address[NOPSPAN_HEADERS - 1] = address;
}

static __always_inline int is_in_other_cgroup(void) {
  return settings.by_cgroup && bpf_current_task_under_cgroup(&cgroup, 0) != 1;
}

// Of a batch with more requests, the collector decides. The verifier follows every iteration of the loop, so it must be
// short.
#define MOST_EXAMINED 512

// A tracestate that has a value "rv" has at least the bytes of "ot=rv:" and 14 digits.
#define LEAST_RANDOMNESS 20
#define HEX_ID 32

// The same rule as is_sampled() in src/collector/model/sampling.h, unless a text of the request may change the
// randomness. Then the result is true, and the collector decides.
static __always_inline bool may_be_in_sample(const struct nopspan_request* request) {
  unsigned long halves[2];
  __builtin_memcpy(halves, request->trace_id, sizeof(halves));
  // An entry without a request is in every sample, and one with links or members belongs to other requests.
  if (!(halves[0] | halves[1]) || request->tracestate.length >= LEAST_RANDOMNESS ||
      (request->flags & NOPSPAN_REQUEST_OF_OTHERS))
    return true;
  unsigned long randomness = __builtin_bswap64(halves[1]) << 8 >> 8;
  if (request->flags & NOPSPAN_REQUEST_FOREIGN_ID) {
    if (request->foreign_id.length == HEX_ID) return true;
    randomness = nopspan_hashed_randomness((const unsigned char*)halves);
  }
  return randomness >= settings.sampled_from;
}

// Returns whether the sample includes no request of the batch. A malformed batch returns 0: it is forwarded, and the
// collector counts its entries as malformed.
static __noinline int is_out_of_sample(const struct batch* batch, unsigned long requests) {
  for (unsigned long i = 0; i < MOST_EXAMINED; ++i) {
    if (!requests) return i > 0;
    const unsigned long at = (requests - 1) * 8;
    struct nopspan_request request;
    if (batch->bytes < sizeof(request) || at > batch->bytes - sizeof(request)) return 0;
    if (bpf_probe_read_user(&request, sizeof(request), (const void*)(batch->address + at))) return 0;
    if (request.kind != NOPSPAN_SHARED_REQUEST || may_be_in_sample(&request)) return 0;
    requests = request.previous;
  }
  return 0;
}

// Returns whether no request of the batch can be wanted. Either the batch has no entry of the wanted request, or all
// its requests have ended in it and none of them meets the conditions, or none of them is in the sample.
static __always_inline int is_filtered_out(const struct batch* batch, const struct nopspan_thread* thread,
                                           unsigned long longest_ns, unsigned long errors) {
  if (settings.request_bit && !(thread->request_bits & settings.request_bit)) return 1;
  if (!thread->open_entries && (longest_ns < settings.slower_than_ns || (settings.only_errors && !errors) ||
                                (settings.name_bit && !(thread->name_bits & settings.name_bit)) ||
                                (settings.model_bit && !(thread->model_bits & settings.model_bit))))
    return 1;
  return settings.sampled_from && is_out_of_sample(batch, thread->requests);
}

// Registers that a batch is filtered out. Returns 0 if it must be forwarded instead, because the collector has fetched
// a part of it or the map `thread_losses` is full. The collector announces a fetch before it checks whether the batch
// was filtered out. This function announces first and checks second too, so at least one side sees the other.
static __noinline int mark_filtered(unsigned int tgid, const struct nopspan_thread* thread) {
  struct nopspan_thread_losses* losses = losses_of(tgid, thread->sequence_id, thread->first);
  if (!losses) return 0;
  const unsigned long before = losses->filtered_next;
  losses->filtered_next = thread->next;
  // This atomic addition of 0 is a barrier. If the operand were a constant, the compiler would use an instruction that
  // only kernels from 5.12 on know.
  unsigned long nothing = 0;
  barrier_var(nothing);
  __sync_fetch_and_add(&losses->entries[NOPSPAN_REASON_FILTERED], nothing);
  struct nopspan_thread_key key = {.tgid = tgid, .sequence_id = thread->sequence_id};
  const unsigned long* fetched_next = bpf_map_lookup_elem(&fetched, &key);
  if (fetched_next && *fetched_next > thread->first) {
    losses->filtered_next = before;
    return 0;
  }
  return 1;
}

SEC("uprobe")
int on_batch(struct pt_regs* ctx) {
  no_private_stack();
  struct batch batch = {
      .task = current_task(),
      .kind = NOPSPAN_MESSAGE_BATCH,
      .header = PT_REGS_PARM6(ctx),
      .address = PT_REGS_PARM1(ctx),
      .bytes = PT_REGS_PARM2(ctx),
  };
  if (!batch.task.seen) return 0;
  unsigned long entries = PT_REGS_PARM3(ctx);
  const unsigned long most = entries < NOPSPAN_MOST_ENTRIES ? entries : NOPSPAN_MOST_ENTRIES;
  struct nopspan_thread thread;
  if (bpf_probe_read_user(&thread, sizeof(thread), (const void*)batch.header)) {
    count_process_loss(&batch.task, NOPSPAN_REASON_UNREADABLE, most);
    return 0;
  }
  if (!batch.bytes) thread.first = thread.next;
  if (thread.magic != NOPSPAN_THREAD_MAGIC || thread.next - thread.first != entries || entries != most) {
    count_process_loss(&batch.task, NOPSPAN_REASON_MALFORMED, most);
    return 0;
  }
  note_header(batch.task.seen, batch.header);
  if (batch.bytes &&
      (is_in_other_cgroup() ||
       (is_filtered_out(&batch, &thread, PT_REGS_PARM4(ctx), PT_REGS_PARM5(ctx)) &&
        mark_filtered(batch.task.id >> 32, &thread)))) {
    count_loss(&batch.task, &thread, NOPSPAN_REASON_FILTERED);
    return 0;
  }
  const unsigned long reason = forward(&batch, &thread);
  if (reason != FORWARDED) count_loss(&batch.task, &thread, reason);
  return 0;
}

// Forwards the entries that a thread still holds. `address` is its header's.
static __noinline void forward_held(const struct task* task, unsigned long address, unsigned int kind) {
  struct batch batch = {.task = *task, .kind = kind, .header = address};
  struct nopspan_thread thread;
  if (bpf_probe_read_user(&thread, sizeof(thread), (const void*)address)) {
    struct nopspan_message* message = bpf_ringbuf_reserve(&ring, sizeof(struct nopspan_message), 0);
    if (!message) return;
    fill(message, kind, &batch.task);
    message->flags = NOPSPAN_MESSAGE_GONE;
    message->header = address;
    bpf_ringbuf_submit(message, wake_up(0));
    return;
  }
  if (thread.magic != NOPSPAN_THREAD_MAGIC || thread.next - thread.first > NOPSPAN_MOST_ENTRIES) return;
  if (!thread.mark) thread.first = thread.next;  // the thread has ended its sequence already
  if (thread.next != thread.first) {
    if (is_in_other_cgroup()) {
      count_loss(&batch.task, &thread, NOPSPAN_REASON_FILTERED);
      thread.first = thread.next;  // only the end of the thread is reported
    } else {
      batch.address = thread.buffer;
      batch.bytes = thread.bytes;
    }
  }
  const unsigned long reason = forward(&batch, &thread);
  if (reason != FORWARDED) count_loss(&batch.task, &thread, reason);
}

static __always_inline int forward_all_held(unsigned int kind) {
  no_private_stack();
  const struct task task = current_task();
  const struct nopspan_thread_headers* known = bpf_map_lookup_elem(&threads, &task.seen);
  if (!known) return 0;
#pragma unroll
  for (int i = 0; i < NOPSPAN_HEADERS; ++i) {
    if (known->address[i]) forward_held(&task, known->address[i], kind);
  }
  bpf_map_delete_elem(&threads, &task.seen);
  return 0;
}

// From Linux 6.16 on, the thread still has its memory at this tracepoint. On older kernels it has it at do_exit.
SEC("raw_tp/sched_process_exit")
int on_exit(void* ctx) { return forward_all_held(NOPSPAN_MESSAGE_ENDED); }

SEC("kprobe/do_exit")
int on_do_exit(struct pt_regs* ctx) { return forward_all_held(NOPSPAN_MESSAGE_ENDED); }

// This tracepoint exists from Linux 6.10 on. On older kernels, the process still has its old memory at begin_new_exec.
SEC("raw_tp/sched_prepare_exec")
int on_prepare_exec(void* ctx) { return forward_all_held(NOPSPAN_MESSAGE_LEFT); }

SEC("kprobe/begin_new_exec")
int on_begin_new_exec(struct pt_regs* ctx) { return forward_all_held(NOPSPAN_MESSAGE_LEFT); }

SEC("raw_tp/sched_process_exec")
int on_exec(void* ctx) {
  // The old memory is gone. This call only reports the threads that were not read before: they can no longer be read.
  forward_all_held(NOPSPAN_MESSAGE_LEFT);
  struct task task = current_task();
  if (!task.seen) return 0;
  struct nopspan_message* message = bpf_ringbuf_reserve(&ring, sizeof(struct nopspan_message), 0);
  if (!message) return 0;
  fill(message, NOPSPAN_MESSAGE_EXEC, &task);
  bpf_ringbuf_submit(message, wake_up(settings.by_cgroup != 0));
  return 0;
}
