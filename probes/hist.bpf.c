// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Histograms of one probe's times, filled where the hit happens: nothing is sent to user space, which reads the rows
// when it wants to show them. What is in no row is counted.
//
// A uprobe's program can be preempted by another thread's on the same CPU, and rows are shared by all CPUs: every count
// is an atomic addition. It needs no BTF of the kernel (no CO-RE), and Linux 5.10.
#include <asm/ptrace.h>
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "hist_events.h"
#include <nopspan/probes.h>
#include "pid.bpf.h"
#include "sample.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// libbpf 1.1 has no PT_REGS_PARM6.
#if defined(__TARGET_ARCH_x86)
#define RECORD_OF(ctx) ((const char*)(ctx)->r9)
#elif defined(__TARGET_ARCH_arm64)
#define RECORD_OF(ctx) ((const char*)((const struct user_pt_regs*)(ctx))->regs[5])
#else
#error "which register has the sixth argument?"
#endif

const volatile struct nopspan_hist_options options = {};

// How many rows there are at most is set before it is loaded, and the size of a key of one part.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 512);
  __uint(key_size, sizeof(struct nopspan_hist_key));
  __uint(value_size, sizeof(struct nopspan_hist_row));
} rows SEC(".maps");

// Row 0 is for all keys that found no room in `rows`; row 1 stays empty, for new rows to be made from.
#define OTHER_ROW 0
#define EMPTY_ROW 1
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct nopspan_hist_row);
} fixed_rows SEC(".maps");

// By tgid. Nothing is taken out of it: counts that are added at that moment would be lost.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(max_entries, NOPSPAN_HIST_PROCESSES);
  __type(key, __u32);
  __type(value, struct nopspan_hist_process);
} processes SEC(".maps");

// Of processes that found no room in `processes`.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct nopspan_hist_process);
} other_processes SEC(".maps");

// The last sequence of a stream, at a place that its number gives: where two streams have the same place, gaps of
// theirs are not seen. `check` is the exclusive or of both: what two threads have written by half is told by it.
struct stream_state {
  __u64 stream, sequence, check;
};
#define STREAM_PLACES 16384
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, STREAM_PLACES);
  __type(key, __u32);
  __type(value, struct stream_state);
} streams SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
} cgroup SEC(".maps");

// A gap beyond it is not of this world.
#define GREATEST_GAP (1UL << 32)

static __noinline struct nopspan_hist_process* new_process(__u32 tgid) {
  struct nopspan_hist_process process = {.pid =
                                             pid_in_namespace(tgid, options.namespace_device, options.namespace_inode)};
  bpf_get_current_comm(process.command, sizeof(process.command));
  // It fails when all have been given away, and when another thread was quicker. The other CPUs' are all zero.
  bpf_map_update_elem(&processes, &tgid, &process, BPF_NOEXIST);
  struct nopspan_hist_process* made = bpf_map_lookup_elem(&processes, &tgid);
  const __u32 zero = 0;
  return made ? made : bpf_map_lookup_elem(&other_processes, &zero);
}

static __always_inline struct nopspan_hist_process* this_process(void) {
  const __u32 tgid = bpf_get_current_pid_tgid() >> 32;
  struct nopspan_hist_process* known = bpf_map_lookup_elem(&processes, &tgid);
  return known ? known : new_process(tgid);
}

static __always_inline void check_sequence(const char* record, struct nopspan_hist_process* process) {
  struct {
    __u64 stream, sequence;
  } at;
  _Static_assert(
      __builtin_offsetof(struct nopspan_span, sequence) == __builtin_offsetof(struct nopspan_span, stream) + 8,
      "read together");
  if (bpf_probe_read_user(&at, sizeof(at), record + __builtin_offsetof(struct nopspan_span, stream))) return;
  const __u32 place = at.stream % STREAM_PLACES;
  struct stream_state* state = bpf_map_lookup_elem(&streams, &place);
  if (!state) return;
  // Only its own thread writes of a stream: it has not changed since unless by another stream's.
  volatile struct stream_state* shared = state;
  const __u64 stream = shared->stream, sequence = shared->sequence, check = shared->check;
  shared->stream = at.stream;
  shared->sequence = at.sequence;
  shared->check = at.stream ^ at.sequence;
  if (stream != at.stream || check != (stream ^ sequence)) return;
  const __u64 gap = at.sequence - sequence - 1;
  if (gap == 0) return;
  if (gap < GREATEST_GAP) {
    __sync_fetch_and_add(&process->missed, gap);
  } else {
    __sync_fetch_and_add(&process->disorder, 1);
  }
}

// Both are 8-aligned; `wanted` is in `options`.
static __always_inline bool is_same(const char* text, const volatile char* wanted, int size) {
  for (int i = 0; i < size; i += 8) {
    if (*(const __u64*)(text + i) != *(const volatile __u64*)(wanted + i)) return false;
  }
  return true;
}

static __always_inline bool is_of_wanted_request(const char* record) {
  char id[24] __attribute__((aligned(8)));
  if (bpf_probe_read_user(id, sizeof(id), record + __builtin_offsetof(struct nopspan_span, request_id))) return false;
  if (options.request_id[0] && !is_same(id, options.request_id, sizeof(id))) return false;
  return options.sample_one_in <= 1 || has_sampled_id(id, options.sample_one_in);
}

// `to` is all zero and has NOPSPAN_HIST_TEXT bytes.
static __always_inline bool read_text(char* to, unsigned int what, struct pt_regs* ctx) {
  const void* from = 0;
  if (what == NOPSPAN_HIST_NAME) {
    from = (const void*)PT_REGS_PARM2(ctx);
  } else if (what == NOPSPAN_HIST_MODEL) {
    from = (const void*)PT_REGS_PARM4(ctx);
  } else {
    const unsigned long offset = what == NOPSPAN_HIST_TENANT ? __builtin_offsetof(struct nopspan_span, tenant)
                                                             : __builtin_offsetof(struct nopspan_span, engine);
    if (bpf_probe_read_user(&from, sizeof(from), RECORD_OF(ctx) + offset)) return false;
  }
  return bpf_probe_read_user_str(to, NOPSPAN_HIST_TEXT, from) >= 0;
}

static __always_inline unsigned int bucket_of(__u64 value) {
  if (value < (2UL << NOPSPAN_HIST_SUB_BITS)) return value;
  unsigned int exponent = 0;
  __u64 rest = value;
#pragma unroll
  for (int bits = 32; bits > 0; bits /= 2) {
    if (rest >> bits) {
      exponent += bits;
      rest >>= bits;
    }
  }
  return ((exponent - NOPSPAN_HIST_SUB_BITS) << NOPSPAN_HIST_SUB_BITS) +
         (unsigned int)(value >> (exponent - NOPSPAN_HIST_SUB_BITS));
}

// A retry means that another CPU has raised it in the same moment.
#define RAISE_TRIES 32

static __always_inline void raise(unsigned long* to, __u64 value, bool has_cmpxchg) {
  __u64 seen = *(volatile unsigned long*)to;
  for (int i = 0; i < RAISE_TRIES; ++i) {
    if (value <= seen) return;
    if (!has_cmpxchg) {
      *(volatile unsigned long*)to = value;
      return;
    }
    const __u64 was = __sync_val_compare_and_swap(to, seen, value);
    if (was == seen) return;
    seen = was;
  }
}

static __always_inline struct nopspan_hist_row* row_of(const struct nopspan_hist_key* key) {
  struct nopspan_hist_row* row = bpf_map_lookup_elem(&rows, key);
  if (row) return row;
  const __u32 empty = EMPTY_ROW, other = OTHER_ROW;
  const struct nopspan_hist_row* zero = bpf_map_lookup_elem(&fixed_rows, &empty);
  if (!zero) return 0;
  // It fails when all rows are taken, and when another thread was quicker, whose row is then found.
  bpf_map_update_elem(&rows, key, zero, BPF_NOEXIST);
  row = bpf_map_lookup_elem(&rows, key);
  return row ? row : bpf_map_lookup_elem(&fixed_rows, &other);
}

static __always_inline void add(struct nopspan_hist_row* row, __u64 value, unsigned int status, bool has_cmpxchg) {
  raise(&row->inverted_minimum, ~value, has_cmpxchg);
  raise(&row->maximum, value, has_cmpxchg);
  __sync_fetch_and_add(&row->sum, value);
  if (status == NOPSPAN_STATUS_ERROR || status == NOPSPAN_STATUS_EXCEPTION) __sync_fetch_and_add(&row->errors, 1);
  if (status == NOPSPAN_STATUS_CANCELLED) __sync_fetch_and_add(&row->cancelled, 1);
  __u64 bucket = bucket_of(value);
  asm volatile("" : "+r"(bucket));  // clang knows that it is in range; the verifier has to be told
  if (bucket < NOPSPAN_HIST_BUCKETS) __sync_fetch_and_add(&row->buckets[bucket], 1);
}

// What a hit's time and status are; false if they cannot be read.
static __always_inline bool read_value(struct pt_regs* ctx, __u64* value, unsigned int* status) {
  *value = PT_REGS_PARM3(ctx);
  if (options.value_offset && bpf_probe_read_user(value, sizeof(*value), RECORD_OF(ctx) + options.value_offset)) {
    return false;
  }
  *status = NOPSPAN_STATUS_OK;
  if (options.status_from == NOPSPAN_HIST_STATUS_ARGUMENT) *status = PT_REGS_PARM5(ctx);
  if (options.status_from == NOPSPAN_HIST_STATUS_RECORD) {
    const unsigned long offset = __builtin_offsetof(struct nopspan_span, status);
    if (bpf_probe_read_user(status, sizeof(*status), RECORD_OF(ctx) + offset)) return false;
  }
  return true;
}

static __always_inline bool is_wanted(struct pt_regs* ctx, __u64 value, unsigned int status) {
  if (value <= options.slower_than_ns && options.slower_than_ns) return false;
  if (options.errors && status != NOPSPAN_STATUS_ERROR && status != NOPSPAN_STATUS_EXCEPTION) return false;
  if (options.cgroup && bpf_current_task_under_cgroup(&cgroup, 0) != 1) return false;
  return (!options.request_id[0] && options.sample_one_in <= 1) || is_of_wanted_request(RECORD_OF(ctx));
}

enum outcome { TAKEN, FILTERED, UNREADABLE };

static __always_inline enum outcome take(struct pt_regs* ctx, bool has_cmpxchg) {
  __u64 value;
  unsigned int status;
  if (!read_value(ctx, &value, &status)) return UNREADABLE;
  if (!is_wanted(ctx, value, status)) return FILTERED;
  if (options.name[0]) {
    char name[NOPSPAN_HIST_TEXT] __attribute__((aligned(8))) = {};
    if (!read_text(name, NOPSPAN_HIST_NAME, ctx)) return UNREADABLE;
    if (!is_same(name, options.name, sizeof(name))) return FILTERED;
  }
  if (options.model[0]) {
    char model[NOPSPAN_HIST_TEXT] __attribute__((aligned(8))) = {};
    if (!read_text(model, NOPSPAN_HIST_MODEL, ctx)) return UNREADABLE;
    if (!is_same(model, options.model, sizeof(model))) return FILTERED;
  }
  struct nopspan_hist_key key = {};
  for (int i = 0; i < NOPSPAN_HIST_PARTS; ++i) {
    if (options.part[i] && !read_text(key.part[i], options.part[i], ctx)) return UNREADABLE;
  }
  struct nopspan_hist_row* row = row_of(&key);
  if (!row) return UNREADABLE;  // no map's lookup fails that cannot
  add(row, value, status, has_cmpxchg);
  return TAKEN;
}

static __always_inline int count_hit(struct pt_regs* ctx, bool has_cmpxchg) {
  struct nopspan_hist_process* process = this_process();
  if (!process) return 0;
  if (options.check_sequences) check_sequence(RECORD_OF(ctx), process);
  switch (take(ctx, has_cmpxchg)) {
    case FILTERED:
      __sync_fetch_and_add(&process->filtered, 1);
      break;
    case UNREADABLE:
      __sync_fetch_and_add(&process->unreadable, 1);
      break;
    case TAKEN:
      __sync_fetch_and_add(&process->taken, 1);
      break;
  }
  return 0;
}

SEC("uprobe")
int hist(struct pt_regs* ctx) { return count_hit(ctx, true); }

// For kernels before 5.12: of two threads that raise an extreme in the same moment the lesser may win. The buckets tell
// then where it lay.
SEC("uprobe")
int hist_without_cmpxchg(struct pt_regs* ctx) { return count_hit(ctx, false); }
