// SPDX-License-Identifier: Apache-2.0
// The contents of a recording, which may be anything. The first byte of an input selects: a chunk of batches, the same
// as it is compressed, or the bytes of a file.
#include "require.h"

#include "../collector/kept_entry.h"

#include "model/steps.h"
#include "recording/chunks.h"
#include "recording/entry_encoder.h"
#include "recording/recorded_batches.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace {

using namespace nopspan::collector;  // NOLINT: the whole file tests this namespace

constexpr std::size_t kMostKept = 200;

std::deque<KeptEntry> entries_of(std::string_view payload, bool must_be_whole) {
  RecordedBatches reader;
  std::deque<KeptEntry> entries;
  const bool is_whole = reader.read(payload, [&](const Entry& entry) {
    require(entry.process != nullptr && *entry.process != nullptr, "an entry is of a process");
    if (entries.size() < kMostKept) entries.emplace_back(entry);
  });
  require(is_whole || !must_be_whole, "what was written can be read");
  return entries;
}

// Writes what was read and reads it again. The result must be the same.
void read_batches(std::string_view payload) {
  const std::deque<KeptEntry> before = entries_of(payload, false);
  EntryEncoder encoder;
  for (const KeptEntry& entry : before) encoder.add(entry.entry());
  std::string written;
  encoder.finish(written);
  const std::string shortened = [&] {
    std::string copy = written;
    shorten_steps(copy);
    return copy;
  }();
  std::string restored = shortened;
  restore_steps(restored);
  require(restored == written, "steps are restored");
  const std::deque<KeptEntry> after = entries_of(written, true);
  require(after.size() == before.size(), "each entry is written once");
  for (std::size_t i = 0; i < before.size(); ++i) {
    const std::string difference = before[i].difference(after[i].entry());
    require(difference.empty(), difference.c_str());
  }
}

void read_compressed(std::string_view payload) {
  std::string restored(payload);
  restore_steps(restored);
  require(restored.size() == payload.size(), "nothing is added");
  read_batches(restored);
}

void read_chunks(std::string_view bytes) {
  std::string file("NOPSPAN\0\x02\0\0\0\0\0\0\0", kFileHeaderBytes);
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
  switch (data[0] % 3) {
    case 0:
      read_batches(rest);
      break;
    case 1:
      read_compressed(rest);
      break;
    default:
      read_chunks(rest);
  }
  return 0;
}
