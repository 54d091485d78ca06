// SPDX-License-Identifier: Apache-2.0
// The chunks of a recording: writing, reading, damaged files and full disks.
#include "recording/chunks.h"

#include "base/failure.h"
#include "full_disk.h"
#include "recorder/crc32.h"
#include "temporary_file.h"

#include <gtest/gtest.h>
#include <libdeflate.h>

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

using namespace nopspan::collector;

namespace {

struct KeptChunk {
  ChunkKind kind;
  std::uint32_t entries;
  std::uint64_t time;
  std::string payload;
  friend bool operator==(const KeptChunk&, const KeptChunk&) = default;
};

struct Found {
  std::vector<KeptChunk> chunks;
  ChunkReader::State state;
};

Found read(OpenFile file) {
  ChunkReader reader(std::move(file), "file");
  Found found;
  Chunk chunk;
  while (reader.next(chunk)) {
    found.chunks.push_back({chunk.kind, chunk.entries, chunk.time_unix_ns, std::string(chunk.payload)});
  }
  found.state = reader.state();
  return found;
}

Found read(const std::string& bytes) {
  OpenFile file(::memfd_create("chunks", MFD_CLOEXEC));
  EXPECT_EQ(::pwrite(file.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return read(std::move(file));
}

const std::vector<KeptChunk> kChunks = {{ChunkKind::about, 0, 1, "{}"},
                                        {ChunkKind::batches, 3, 2, std::string(300, 'N')},
                                        {ChunkKind::batches_gzip, 1, 0xffffffffffffffffU, ""},
                                        {ChunkKind::ledger, 0, 4, "NSPF NSPF NOPSPAN"},
                                        {ChunkKind::end, 0, 5, ""}};

std::string file_of(const std::vector<KeptChunk>& chunks) {
  const TemporaryFile file;
  ChunkWriter writer(file.open(O_CREAT | O_WRONLY));
  for (const KeptChunk& chunk : chunks) {
    EXPECT_TRUE(writer.write({chunk.kind, chunk.entries, chunk.time, chunk.payload}));
  }
  Writing writing;
  EXPECT_TRUE(writer.sync(writing));
  EXPECT_EQ(writer.bytes(), file.bytes().size());
  return file.bytes();
}

TEST(Chunks, AreReadAsTheyWereWritten) {
  const Found found = read(file_of(kChunks));
  EXPECT_EQ(found.chunks, kChunks);
  EXPECT_TRUE(found.state.is_whole());
}

TEST(Chunks, HaveTheSameChecksumIfAProgramRecordsItself) {
  std::string bytes(300, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i * 7 + i);
  for (std::size_t begin = 0; begin < 16; ++begin) {
    for (std::size_t size = 0; size <= bytes.size() - begin; ++size) {
      const std::string_view part = std::string_view(bytes).substr(begin, size);
      const std::uint32_t expected = libdeflate_crc32(0, part.data(), part.size());
      ASSERT_EQ(nopspan::recording::crc32_of(part), expected) << begin << " " << size;
      ASSERT_EQ(~nopspan::recording::crc32_by_table(~std::uint32_t{0}, part), expected) << begin << " " << size;
    }
  }
}

TEST(Chunks, OfAFileThatWasCutAnywhereAreReadUpToTheLastWholeOne) {
  const std::string whole = file_of(kChunks);
  std::vector<std::size_t> ends = {kFileHeaderBytes};
  for (const KeptChunk& chunk : kChunks) ends.push_back(ends.back() + kChunkHeaderBytes + chunk.payload.size());
  ASSERT_EQ(ends.back(), whole.size());
  for (std::size_t size = kFileHeaderBytes; size < whole.size(); ++size) {
    const Found found = read(whole.substr(0, size));
    std::size_t chunks = 0;
    while (chunks + 1 < ends.size() && ends[chunks + 1] <= size) ++chunks;
    ASSERT_EQ(found.chunks.size(), chunks) << size;
    ASSERT_TRUE(std::equal(found.chunks.begin(), found.chunks.end(), kChunks.begin())) << size;
    ASSERT_EQ(found.state.skipped, size - ends[chunks]) << size;
    ASSERT_EQ(found.state.broken, size == ends[chunks] ? 0U : 1U) << size;
    ASSERT_FALSE(found.state.ended) << size;
    ASSERT_FALSE(found.state.is_whole()) << size;
  }
}

TEST(Chunks, OfWhichAnyByteIsWrongAreLeftOutAndTheOthersAreRead) {
  const std::string whole = file_of(kChunks);
  for (std::size_t at = kFileHeaderBytes; at < whole.size(); ++at) {
    std::string broken = whole;
    broken[at] = static_cast<char>(broken[at] ^ 0x10);
    const Found found = read(broken);
    ASSERT_EQ(found.chunks.size(), kChunks.size() - 1) << at;
    ASSERT_GE(found.state.skipped, kChunkHeaderBytes) << at;
    ASSERT_EQ(found.state.broken, 1U) << at;
    ASSERT_FALSE(found.state.is_whole()) << at;
    std::size_t i = 0;
    for (const KeptChunk& chunk : kChunks) {
      if (i < found.chunks.size() && found.chunks[i] == chunk) ++i;
    }
    ASSERT_EQ(i, found.chunks.size()) << "a chunk that was never written, byte " << at;
  }
}

TEST(Chunks, ThatAreDamagedAreCountedAndTheirEntriesTooIfTheHeaderIsIntact) {
  const std::string whole = file_of(kChunks);
  const std::size_t traces = kFileHeaderBytes + kChunkHeaderBytes + 2;
  const std::size_t logs = traces + kChunkHeaderBytes + 300;
  std::string zeroed = whole;
  zeroed.replace(logs - 200, 210, 210, '\0');
  for (const auto& [bytes, broken, entries] :
       {std::tuple(zeroed, 2U, 3U), std::tuple(whole.substr(0, logs - 100), 1U, 3U),
        std::tuple(whole.substr(0, traces + 10), 1U, 0U)}) {
    const ChunkReader::State state = read(bytes).state;
    EXPECT_EQ(state.broken, broken);
    EXPECT_EQ(state.broken_entries, entries);
  }
}

TEST(Chunks, AreFoundBehindBytesThatAreNone) {
  const std::string whole = file_of(kChunks);
  const std::string header = whole.substr(0, kFileHeaderBytes), rest = whole.substr(kFileHeaderBytes);
  for (const std::string& garbage : {std::string("x"), std::string("NSPF"), std::string(5000, 'N'),
                                     std::string("NOPSPAN\0\x09\0\0\0\0\0\0\0", 16), rest.substr(0, 40)}) {
    const Found found = read(header + garbage + rest);
    EXPECT_EQ(found.chunks.size(), kChunks.size() + (garbage.starts_with(rest.substr(0, 34)) ? 1 : 0));
    EXPECT_TRUE(found.state.ended);
    EXPECT_GT(found.state.skipped, 0U);
  }
}

TEST(Chunks, OfHugeLengthTakeNoMemoryAndNoTime) {
  std::string bytes = file_of({}) + std::string("NOPSPAN\0\x02\0\0\0\0\0\0\0", 16);
  const std::string chunk = file_of({{ChunkKind::batches, 1, 1, ""}}).substr(kFileHeaderBytes);
  for (const std::uint32_t length : {0xffffffffU, 0x80000000U, static_cast<std::uint32_t>(kMostPayload) + 1}) {
    std::string wrong = chunk;
    std::memcpy(wrong.data() + 8, &length, sizeof(length));
    bytes += wrong;
  }
  bytes += chunk;
  const Found found = read(bytes);
  EXPECT_EQ(found.chunks.size(), 1U);
  EXPECT_EQ(found.state.skipped, 3 * kChunkHeaderBytes);
}

TEST(Chunks, AsLargeAsTheyMayBeAreReadAndLargerOnesAreNotWritten) {
  const TemporaryFile file;
  ChunkWriter writer(file.open(O_CREAT | O_WRONLY));
  const std::string most(kMostPayload, 'x'), more(kMostPayload + 1, 'x');
  EXPECT_TRUE(writer.write({ChunkKind::batches, 1, 1, most}));
  EXPECT_FALSE(writer.write({ChunkKind::batches, 1, 1, more}));
  EXPECT_TRUE(writer.write({ChunkKind::end, 0, 1, {}}));
  const Found found = read(file.open());
  ASSERT_EQ(found.chunks.size(), 2U);
  EXPECT_EQ(found.chunks[0].payload, most);
  EXPECT_TRUE(found.state.is_whole());
}

std::string why_not(const std::string& bytes) {
  try {
    read(bytes);
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.exit_status, Failure::kUsageError);
    return failure.what();
  }
  return "";
}

TEST(Chunks, AreNotLookedForInAFileThatIsNoRecording) {
  EXPECT_EQ(why_not(""), "file: the file is empty");
  EXPECT_EQ(why_not("%PDF-1.7 and so on, for many bytes"), "file: not a recording of nopspan record");
  EXPECT_EQ(why_not("NOPSPAN"), "file: not a recording of nopspan record");
  std::string other = file_of(kChunks);
  other[8] = 3;
  EXPECT_EQ(why_not(other), "file: the recording has format version 3, but this nopspan reads only version 2");
  other[8] = 1;
  EXPECT_EQ(
      why_not(other),
      "file: the recording has format version 1, but this nopspan reads only version 2: copy it with nopspan 0.2, by "
      "`nopspan record COPY --from FILE`");
  EXPECT_THROW(ChunkReader(OpenFile(::open("/", O_RDONLY)), "/"), Failure);
}

TEST(Chunks, AreWholeOrNotThereOnAFullDisk) {
  const std::string payload(1000, 'p');
  for (std::uint64_t most = 20; most < 3000; most += 61) {
    const TemporaryFile file;
    ChunkWriter writer(file.open(O_CREAT | O_WRONLY));
    std::size_t written = 0;
    {
      const FullDisk full(most);
      for (int i = 0; i < 5; ++i) written += writer.write({ChunkKind::batches, 1, 1, payload}) ? 1 : 0;
      EXPECT_EQ(writer.error(), EFBIG);
      ASSERT_EQ(file.bytes().size(), writer.bytes());
    }
    EXPECT_LT(written, 3U);
    EXPECT_TRUE(writer.write({ChunkKind::end, 0, 2, {}}));  // there is space again
    const Found found = read(file.open());
    EXPECT_EQ(found.chunks.size(), written + 1);
    EXPECT_TRUE(found.state.is_whole());
  }
}

TEST(Chunks, AreAppendedToWhatIsInTheFileAlready) {
  const TemporaryFile file;
  const std::string before = file_of(kChunks);
  file.set_bytes(before);
  {
    const FullDisk full(before.size() + 100);
    ChunkWriter writer(file.open(O_APPEND | O_WRONLY));
    EXPECT_FALSE(writer.write({ChunkKind::batches, 1, 1, std::string(1000, 'p')}));
    EXPECT_TRUE(writer.write({ChunkKind::end, 0, 2, {}}));
  }
  const Found found = read(file.open());
  EXPECT_EQ(found.chunks.size(), kChunks.size() + 1);
  EXPECT_TRUE(found.state.is_whole());
}

TEST(Chunks, ThatAPipeTookAPartOfAreSkippedByItsReader) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
  ChunkWriter writer{OpenFile(ends[1])};
  const OpenFile in(ends[0]);
  Writing writing;
  std::thread canceller([&writing] {
    while (writing.progress() == 0) std::this_thread::yield();
    writing.cancel();
  });
  EXPECT_FALSE(writer.write({ChunkKind::batches, 1, 1, std::string(8U << 20U, 'N')}, writing));
  canceller.join();
  EXPECT_EQ(writer.error(), ECANCELED);
  const std::string payload(100'000, 'N');
  std::string bytes;
  const auto drain = [&] {
    std::string chunk(1U << 16U, '\0');
    for (ssize_t now = 0; (now = ::read(in.get(), chunk.data(), chunk.size())) > 0;) {
      bytes.append(chunk, 0, static_cast<std::size_t>(now));
    }
  };
  drain();
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(writer.write({ChunkKind::batches, 1, 1, payload}));
    drain();
  }
  EXPECT_TRUE(writer.write({ChunkKind::end, 0, 2, {}}));
  drain();
  const Found found = read(bytes);
  EXPECT_EQ(found.chunks.size(), 4U);
  EXPECT_GT(found.state.skipped, 0U);
  EXPECT_TRUE(found.state.ended);
}

}  // namespace
