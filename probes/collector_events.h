/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * What the kernel programs of collector.bpf.c and the collector have in common: the records in the ring buffer, the
 * maps' keys and values, and the settings. As nopspan/probes.h it includes nothing and says `unsigned int` and
 * `unsigned long`. Both sides are of one build: nothing here is stable. */
#ifndef NOPSPAN_COLLECTOR_EVENTS_H
#define NOPSPAN_COLLECTOR_EVENTS_H

#include <nopspan/probes.h>

/* What a record in the ring buffer is. */
#define NOPSPAN_RECORD_BATCH 1 /* the site of the batch probe was passed; bytes 0: a thread's header is announced */
#define NOPSPAN_RECORD_ENDED 2 /* a thread ended: what it still held */
#define NOPSPAN_RECORD_LEFT 3  /* a thread executes another program: the same */
#define NOPSPAN_RECORD_EXEC 4  /* a process executed another program */

/* flags */
#define NOPSPAN_RECORD_GONE 0x1u /* the thread's header could not be read any more: what it held is not known */

/* Begins every record. Behind it are `bytes` bytes. */
struct nopspan_record {
  unsigned int kind;
  unsigned int flags;
  unsigned int tgid; /* process and thread, as the first pid namespace numbers them */
  unsigned int tid;
  unsigned int pid;       /* the process as the collector's pid namespace numbers it; 0: it is not in it */
  unsigned int thread_id; /* from here on of struct nopspan_thread */
  unsigned long time_ns;  /* CLOCK_MONOTONIC */
  unsigned long cgroup;
  unsigned long header; /* its address */
  unsigned long stream;
  unsigned long first;
  unsigned long next;
  unsigned long discarded;
  unsigned long capacity;
  unsigned long bytes;
  char command[16];
};

/* Why a program could not pass a hit on. */
#define NOPSPAN_REASON_RING_FULL 0
#define NOPSPAN_REASON_UNREADABLE 1 /* a page was not in memory, or the address is none */
#define NOPSPAN_REASON_TOO_LARGE 2
#define NOPSPAN_REASON_FILTERED 3
#define NOPSPAN_REASON_MALFORMED 4 /* the header is none */
#define NOPSPAN_REASONS 5

/* Map `processes`, by tgid. */
struct nopspan_process_losses {
  unsigned long entries[NOPSPAN_REASONS];
  unsigned long hits[NOPSPAN_REASONS];
};

/* Map `streams`: of those of which hits were not passed on, so that what they emitted is known whether or not anything
 * of them ever arrives. */
struct nopspan_stream_key {
  unsigned long tgid;
  unsigned long stream;
};
struct nopspan_stream_losses {
  unsigned long first;         /* of the first of these hits */
  unsigned long next;          /* of the last one */
  unsigned long filtered_next; /* of the last one that a filter left out */
  unsigned long discarded;     /* as the thread's header had it at the last one */
  unsigned long entries[NOPSPAN_REASONS];
};

/* Map `threads`, by pid << 32 | tid: where a thread has its headers, one for each copy of the library. */
#define NOPSPAN_HEADERS 4
struct nopspan_thread_headers {
  unsigned long address[NOPSPAN_HEADERS];
};

/* No batch has more entries: its texts are found by 16 bits, in units of 8 bytes. */
#define NOPSPAN_MOST_ENTRIES 8192

/* Settings: read-only data, which is set before the programs are loaded. 0: whatever it is. */
struct nopspan_settings {
  unsigned long wake_bytes;       /* so much in the ring buffer wakes the collector up */
  unsigned long namespace_device; /* of the collector's pid namespace, where that is not the first one */
  unsigned long namespace_inode;
  unsigned long by_cgroup; /* only what is emitted below the one in the map `cgroup` */
  /* A batch is left out if it can be told from it alone that none of its requests is wanted. */
  unsigned long slower_than_ns;
  unsigned long only_errors;
  unsigned long name_bit;
  unsigned long model_bit;
  unsigned long request_bit;
  unsigned long sample_one_in;
};

#endif /* NOPSPAN_COLLECTOR_EVENTS_H */
