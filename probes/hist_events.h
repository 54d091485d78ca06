/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * What probes/hist.bpf.c and `nopspan hist` (src/collector/hist/hist_source.cpp) tell each other: histograms that are
 * filled in the kernel, and the knobs, which are read-only data set before the object is loaded. It includes nothing.
 */
#ifndef NOPSPAN_HIST_EVENTS_H
#define NOPSPAN_HIST_EVENTS_H

/* A row's key is up to two texts of the hit, as bytes that end with a NUL and zeros. */
#define NOPSPAN_HIST_TEXT 64
#define NOPSPAN_HIST_PARTS 2
#define NOPSPAN_HIST_NONE 0u
#define NOPSPAN_HIST_NAME 1u   /* arg1 */
#define NOPSPAN_HIST_MODEL 2u  /* arg3 */
#define NOPSPAN_HIST_TENANT 3u /* by the record's pointer */
#define NOPSPAN_HIST_ENGINE 4u /* by the record's pointer */
struct nopspan_hist_key {
  char part[NOPSPAN_HIST_PARTS][NOPSPAN_HIST_TEXT];
};

/* Log-linear: exact below 64, then 32 buckets an octave (src/collector/base/log_linear.h). */
#define NOPSPAN_HIST_SUB_BITS 5
#define NOPSPAN_HIST_BUCKETS ((65 - NOPSPAN_HIST_SUB_BITS) << NOPSPAN_HIST_SUB_BITS)

/* How many hits there were is what the buckets add up to. All zero is an empty row. The totals come last: who copies a
 * row while it is filled finds in them everything that he found in the buckets. */
struct nopspan_hist_row {
  unsigned long buckets[NOPSPAN_HIST_BUCKETS];
  unsigned long errors;    /* of them with status 1 or 3 */
  unsigned long cancelled; /* with status 2 */
  unsigned long sum;       /* modulo 2^64 */
  unsigned long maximum;
  unsigned long inverted_minimum; /* ~minimum */
};

/* What became of a process's hits; each CPU has one of these. Of so many processes: the rest are counted as one. */
#define NOPSPAN_HIST_PROCESSES 1024
struct nopspan_hist_process {
  unsigned long taken; /* they are in a row */
  unsigned long filtered;
  unsigned long unreadable; /* a text or the record was not in memory */
  unsigned long missed;     /* gaps in the sequences */
  unsigned long disorder;   /* sequences that go back or leap: no library writes such, nothing is concluded from them */
  /* Of the process when it was first seen; 0 and "" from CPUs that did not see it first. */
  unsigned int pid; /* as the collector's pid namespace numbers it; 0: it does not */
  char command[20]; /* the thread's name, at most 15 bytes */
};

#define NOPSPAN_HIST_NO_STATUS 0u
#define NOPSPAN_HIST_STATUS_ARGUMENT 1u /* arg4 */
#define NOPSPAN_HIST_STATUS_RECORD 2u
struct nopspan_hist_options {
  unsigned int part[NOPSPAN_HIST_PARTS]; /* NOPSPAN_HIST_NAME … */
  unsigned int value_offset;             /* of the time in the record; 0: it is arg2 */
  unsigned int status_from;              /* NOPSPAN_HIST_STATUS_* */
  unsigned int check_sequences;
  /* Filters; 0 or "" where there is none. */
  unsigned int errors;
  unsigned int cgroup; /* the map `cgroup` has one */
  unsigned int sample_one_in;
  unsigned long slower_than_ns;
  unsigned long namespace_device; /* of the collector's pid namespace, where that is not the first one */
  unsigned long namespace_inode;
  char name[NOPSPAN_HIST_TEXT];
  char model[NOPSPAN_HIST_TEXT];
  char request_id[24];
};

#endif /* NOPSPAN_HIST_EVENTS_H */
