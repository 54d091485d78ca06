/* SPDX-License-Identifier: Apache-2.0
 * Prints the open spans of a process, or of a core file: `open_spans PID|FILE`, a line for each. It uses nothing of
 * nopspan but <nopspan/probes.h>, as a tracer of somebody else would. */
#include <nopspan/probes.h>

#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct segment {
  unsigned long address, size, offset;
};
static struct segment segments[65536];
static int segment_count, file;

static void add(unsigned long address, unsigned long size, unsigned long offset) {
  if (segment_count < 65536) segments[segment_count++] = (struct segment){address, size, offset};
}

static void fail(const char* what) {
  fprintf(stderr, "open_spans: %s\n", what);
  exit(1);
}

static int copy(unsigned long address, void* to, unsigned long size) {
  for (int i = 0; i < segment_count; ++i) {
    const struct segment* s = &segments[i];
    if (address < s->address || address - s->address >= s->size || size > s->size - (address - s->address)) continue;
    return pread(file, to, size, (off_t)(s->offset + (address - s->address))) == (ssize_t)size;
  }
  return 0;
}

static void open_process(const char* pid) {
  char path[64], line[512], mode[8];
  snprintf(path, sizeof path, "/proc/%s/maps", pid);
  FILE* maps = fopen(path, "r");
  snprintf(path, sizeof path, "/proc/%s/mem", pid);
  file = open(path, O_RDONLY);
  if (maps == NULL || file < 0) fail("cannot read the process");
  unsigned long from, to;
  while (fgets(line, sizeof line, maps) != NULL) {
    if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3 && mode[1] == 'w') add(from, to - from, from);
  }
  fclose(maps);
}

static void open_core(const char* path) {
  Elf64_Ehdr header;
  Elf64_Phdr program;
  file = open(path, O_RDONLY);
  if (file < 0 || pread(file, &header, sizeof header, 0) != sizeof header) fail("cannot read the file");
  for (int i = 0; i < header.e_phnum; ++i) {
    const off_t at = (off_t)(header.e_phoff + (unsigned long)i * sizeof program);
    if (pread(file, &program, sizeof program, at) != sizeof program) fail("cannot read the file");
    if (program.p_type == PT_LOAD) add(program.p_vaddr, program.p_filesz, program.p_offset);
  }
}

static const char* label(const struct nopspan_gate_page* page, unsigned number, struct nopspan_label* to) {
  memset(to, 0, sizeof *to);
  if (number == 0 || number >= page->labels_count) return "-";
  return copy(page->labels + (unsigned long)number * page->label_bytes, to, sizeof *to) && to->size > 0 ? to->text
                                                                                                        : "?";
}

static void show(const struct nopspan_gate_page* page, unsigned long address, unsigned long mark) {
  struct nopspan_open span;
  struct {
    unsigned state, generation;
  } before, after;
  struct nopspan_label labels[4];
  if (!copy(address, &before, sizeof before) || !copy(address, &span, sizeof span)) return;
  if (!copy(address, &after, sizeof after) || memcmp(&before, &after, sizeof before) != 0) return;
  if (before.state != NOPSPAN_OPEN || span.mark != mark) return;
  for (int i = 0; i < 16; ++i) printf("%02x", (unsigned char)span.trace_id[i]);
  printf(" %016lx %016lx %.*s start=%lu tokens=%lu first=%d engine=%s model=%s tenant=%s %s=%s id=%s\n", span.span_id,
         span.parent_id, (int)span.name_size, span.name, span.start_ns, span.output_tokens, span.first_token_ns != 0,
         label(page, span.labels[0], &labels[0]), label(page, span.labels[1], &labels[1]),
         label(page, span.labels[2], &labels[2]), label(page, page->label_keys[0], &labels[3]),
         label(page, span.labels[3], &(struct nopspan_label){0}),
         (span.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0 ? span.foreign_id : "-");
}

static void show_all(const struct nopspan_gate_page* page) {
  unsigned long mark = 0;
  struct nopspan_slab slab;
  if (!copy(page->process_mark, &mark, sizeof mark)) fail("there is no mark");
  for (unsigned i = 0; i < page->open_slabs_count; ++i) {
    if (!copy(page->open_slabs + i * sizeof slab, &slab, sizeof slab) || slab.spans == 0) return;
    for (unsigned span = 0; span < 64; ++span) {
      if ((slab.free >> span & 1) == 0) show(page, slab.spans + (unsigned long)span * page->open_bytes, mark);
    }
  }
}

int main(int argc, char** argv) {
  if (argc != 2) fail("usage: open_spans PID|FILE");
  strspn(argv[1], "0123456789") == strlen(argv[1]) ? open_process(argv[1]) : open_core(argv[1]);
  int found = 0;
  for (int i = 0; i < segment_count; ++i) {
    for (unsigned long at = segments[i].address; at < segments[i].address + segments[i].size; at += 4096) {
      struct nopspan_gate_page page;
      if (!copy(at, &page, sizeof page) || page.magic != NOPSPAN_GATE_MAGIC || page.size < sizeof page) continue;
      show_all(&page);
      found = 1;
    }
  }
  if (!found) fail("there is no gate");
  return 0;
}
