/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The interface between the kernel programs of collector.bpf.c and the collector: the messages in the ring buffer, the
 * keys and values of the maps, and the settings. Like nopspan/probes.h it includes only headers that compile for BPF
 * and uses `unsigned int` and `unsigned long`. Both sides come from one build, so nothing here is stable. */
#ifndef NOPSPAN_COLLECTOR_EVENTS_H
#define NOPSPAN_COLLECTOR_EVENTS_H

#include <nopspan/probes.h>

/* Kinds of messages in the ring buffer. */
#define NOPSPAN_MESSAGE_BATCH 1 /* a batch from the batch probe; if `bytes` is 0, a thread announces its header */
#define NOPSPAN_MESSAGE_ENDED 2 /* a thread ended: the entries that it still held */
#define NOPSPAN_MESSAGE_LEFT 3  /* a thread executes another program: the entries that it still held */
#define NOPSPAN_MESSAGE_EXEC 4  /* a process executed another program */

/* flags */
#define NOPSPAN_MESSAGE_GONE 0x1U /* the thread's header could no longer be read: its entries are unknown */

/* The start of every message. `bytes` bytes follow it. */
struct nopspan_message {
  unsigned int kind;
  unsigned int flags;
  unsigned int tgid; /* process and thread in the initial pid namespace */
  unsigned int tid;
  unsigned int pid;       /* the process in the collector's pid namespace */
  unsigned int thread_id; /* this, and `sequence_id` to `capacity`, are from struct nopspan_thread */
  unsigned long time_ns;  /* the collector's CLOCK_MONOTONIC */
  unsigned long cgroup;
  unsigned long header; /* address of the thread's struct nopspan_thread */
  unsigned long sequence_id;
  unsigned long first;
  unsigned long next;
  unsigned long discarded;
  unsigned long capacity;
  unsigned long bytes;
  char comm[16];
};

/* Reasons why a program did not forward a batch. */
#define NOPSPAN_REASON_RING_FULL 0
#define NOPSPAN_REASON_UNREADABLE 1 /* a page was not in memory, or the address is invalid */
#define NOPSPAN_REASON_TOO_LARGE 2
#define NOPSPAN_REASON_FILTERED 3
#define NOPSPAN_REASON_MALFORMED 4 /* the header is invalid */
#define NOPSPAN_REASONS 5

/* Map `process_losses`, by tgid. */
struct nopspan_process_losses {
  unsigned long pid; /* in the collector's pid namespace */
  unsigned long entries[NOPSPAN_REASONS];
};

/* Map `thread_losses`: the threads with batches that were not forwarded. With it the collector knows what such a thread
 * has emitted even if nothing of it ever arrives. */
struct nopspan_thread_key {
  unsigned long tgid;
  unsigned long sequence_id;
};
struct nopspan_thread_losses {
  unsigned long first;         /* `first` of the first of these batches */
  unsigned long next;          /* `next` of the last one */
  unsigned long filtered_next; /* `next` of the last one that was filtered out */
  unsigned long discarded;     /* from the thread's header, at the last one */
  unsigned long entries[NOPSPAN_REASONS];
};

/* Map `threads`, by pid << 32 | tid in the collector's pid namespace: the addresses of a thread's headers, one for each
 * copy of the library. */
#define NOPSPAN_HEADERS 4
struct nopspan_thread_headers {
  unsigned long address[NOPSPAN_HEADERS];
};

/* No batch has more entries. The library's batches have at most an eighth of that. */
#define NOPSPAN_MOST_ENTRIES 8192

/* Where this kernel has what the programs read of a task in a pid namespace below the collector's. `numbers` is 0 if it
 * is not known. */
struct nopspan_task_layout {
  unsigned int group_leader, thread_pid; /* in struct task_struct */
  unsigned int level, numbers;           /* in struct pid */
  unsigned int number_bytes;             /* the size of struct upid */
  unsigned int number, space;            /* in struct upid: nr and ns */
  unsigned int inode;                    /* in struct pid_namespace */
};

/* Settings: read-only data that is set before the programs are loaded. 0 means no condition. */
struct nopspan_settings {
  unsigned long wake_bytes;       /* fill level of the ring buffer that wakes the collector */
  unsigned long namespace_device; /* the collector's pid namespace; 0 if it is the initial one */
  unsigned long namespace_inode;
  struct nopspan_task_layout layout;
  unsigned long clock_offset_ns; /* the collector's CLOCK_MONOTONIC minus the kernel's */
  unsigned long by_cgroup;       /* only entries flushed in the cgroup of the map `cgroup`, or below it */
  /* The conditions below filter out a batch if it alone shows that none of its requests is wanted. */
  unsigned long slower_than_ns;
  unsigned long only_errors;
  unsigned long name_bit;
  unsigned long model_bit;
  unsigned long request_bit;
  unsigned long sampled_from; /* the least randomness of a request in the sample */
};

#endif /* NOPSPAN_COLLECTOR_EVENTS_H */
