// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// By which number the collector knows the process that runs.
#ifndef NOPSPAN_PID_BPF_H
#define NOPSPAN_PID_BPF_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

// In the collector's pid namespace, whose device and inode these are (no inode: the first namespace); 0 if it has none
// there. `tgid` is the number in the first one.
static __always_inline unsigned int pid_in_namespace(unsigned int tgid, unsigned long device, unsigned long inode) {
  if (!inode) return tgid;
  struct bpf_pidns_info info = {};
  return bpf_get_ns_current_pid_tgid(device, inode, &info, sizeof(info)) ? 0 : info.tgid;
}

#endif  // NOPSPAN_PID_BPF_H
