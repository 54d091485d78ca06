// SPDX-License-Identifier: Apache-2.0
// The contents of a recording, which may be anything. The first byte of an input selects: an OTLP message (traces, logs
// or metrics), chunks, or steps.
#include "require.h"

#include "../collector/kept_entry.h"

#include "base/utf8.h"
#include "model/steps.h"
#include "recording/chunks.h"
#include "recording/otlp_reader.h"
#include "recording/otlp_spans.h"
#include "recording/recorded_steps.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace {

using namespace nopspan::collector;  // NOLINT: the whole file tests this namespace

std::deque<KeptEntry> spans_of(Signal signal, std::string_view message, bool must_be_whole) {
  OtlpReader reader;
  std::deque<KeptEntry> spans;
  const bool is_whole = reader.read(signal, message, [&](const Entry& entry) {
    require(entry.process != nullptr && *entry.process != nullptr, "an entry is of a process");
    require(signal_of(entry.kind) == signal, "an entry is of its message's kind");
    spans.emplace_back(entry);
  });
  require(is_whole || !must_be_whole, "what was written can be read");
  return spans;
}

// Whether a writer changes it, because it has text that is not UTF-8 or malformed attributes.
bool is_repaired(const Entry& entry) {
  if (!entry.has_checked_attributes) return true;
  for (const std::string_view text : {entry.name, entry.engine, entry.model, entry.tenant, entry.exception_kind,
                                      entry.error_type, entry.foreign_id, entry.tracestate, entry.text}) {
    if (!is_utf8(text)) return true;
  }
  return false;
}

KeptEntry written_and_read(Signal signal, const Entry& entry) {
  OtlpEncoder encoder(signal);
  encoder.add(entry);
  std::string message;
  encoder.finish(message);
  const auto after = spans_of(signal, message, true);
  require(after.size() == 1, "one entry is one");
  return KeptEntry(after.front().entry());
}

// Writes what was read and reads it again. The result must be the same, unless it was repaired. Then it must be the
// same from then on.
void read_message(Signal signal, std::string_view message) {
  for (const KeptEntry& read : spans_of(signal, message, false)) {
    const KeptEntry before = is_repaired(read.entry()) ? written_and_read(signal, read.entry()) : read;
    const std::string difference = before.difference(written_and_read(signal, before.entry()).entry());
    require(difference.empty(), difference.c_str());
  }
}

std::deque<KeptEntry> steps_of(std::string_view message, bool must_be_whole) {
  constexpr std::size_t kMostKept = 200;
  OtlpReader processes;
  StepReader reader;
  std::deque<KeptEntry> entries;
  const bool is_whole = reader.read(message, processes, [&](const Entry& entry) {
    require(is_recorded_step(entry), "an entry is a step or a part");
    require(entry.kind == Kind::part || members_of(entry) <= entry.step->members, "a step has all of its members");
    if (entries.size() < kMostKept) entries.emplace_back(entry);
  });
  require(is_whole || !must_be_whole, "what was written can be read");
  return entries;
}

void read_steps(std::string_view message) {
  const std::deque<KeptEntry> before = steps_of(message, false);
  StepEncoder encoder;
  for (const KeptEntry& entry : before) encoder.add(entry.entry());
  std::string again;
  encoder.finish(again);
  const std::deque<KeptEntry> after = steps_of(again, true);
  require(after.size() == before.size(), "each entry is written once");
  for (std::size_t i = 0; i < before.size(); ++i) {
    const Process& process = **before[i].entry().process;
    // In a resource, bytes that are not UTF-8 are replaced.
    if (!is_utf8(process.comm + process.executable + process.cgroup + process.container + process.library +
                 process.library_version + process.host)) {
      continue;
    }
    const std::string difference = before[i].difference(after[i].entry());
    require(difference.empty(), difference.c_str());
  }
}

void read_chunks(std::string_view bytes) {
  std::string file("NOPSPAN\0\x01\0\0\0\0\0\0\0", kFileHeaderBytes);
  file += bytes;
  OpenFile in(memfd_create("chunks", MFD_CLOEXEC));
  require(pwrite(in.get(), file.data(), file.size(), 0) == static_cast<ssize_t>(file.size()), "there is memory");
  ChunkReader reader(std::move(in), "input");
  std::size_t whole = 0;
  for (Chunk chunk; reader.next(chunk);) whole += kChunkHeaderBytes + chunk.payload.size();
  const ChunkReader::State& state = reader.state();
  require(state.bytes == file.size(), "all of it is read");
  require((state.bytes - state.skipped - whole) % kFileHeaderBytes == 0,
          "each byte is of a chunk, a header, or left out");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      read_message(Signal::traces, rest);
      break;
    case 1:
      read_message(Signal::logs, rest);
      break;
    case 2:
      read_message(Signal::metrics, rest);
      break;
    case 3:
      read_chunks(rest);
      break;
    default:
      read_steps(rest);
  }
  return 0;
}
