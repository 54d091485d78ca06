// SPDX-License-Identifier: Apache-2.0
// The frames of a recording: writing, reading, damaged files and full disks.
#include "recording/frames.h"

#include "base/failure.h"
#include "temporary_file.h"

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace nopspan::collector;

namespace {

struct KeptFrame {
  FrameKind kind;
  std::uint32_t entries;
  std::uint64_t time;
  std::string payload;
  friend bool operator==(const KeptFrame&, const KeptFrame&) = default;
};

struct Found {
  std::vector<KeptFrame> frames;
  FrameReader::State state;
};

Found read(OpenFile file) {
  FrameReader reader(std::move(file), "file");
  Found found;
  Frame frame;
  while (reader.next(frame)) {
    found.frames.push_back({frame.kind, frame.entries, frame.time_unix_ns, std::string(frame.payload)});
  }
  found.state = reader.state();
  return found;
}

Found read(const std::string& bytes) {
  OpenFile file(::memfd_create("frames", MFD_CLOEXEC));
  EXPECT_EQ(::pwrite(file.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return read(std::move(file));
}

const std::vector<KeptFrame> kFrames = {{FrameKind::about, 0, 1, "{}"},
                                        {FrameKind::traces, 3, 2, std::string(300, 'N')},
                                        {FrameKind::logs, 1, 0xffffffffffffffffU, ""},
                                        {FrameKind::ledger, 0, 4, "NSPF NSPF NOPSPAN"},
                                        {FrameKind::end, 0, 5, ""}};

std::string file_of(const std::vector<KeptFrame>& frames) {
  const TemporaryFile file;
  FrameWriter writer(file.open(O_CREAT | O_WRONLY));
  for (const KeptFrame& frame : frames) {
    EXPECT_TRUE(writer.write({frame.kind, frame.entries, frame.time, frame.payload}));
  }
  EXPECT_TRUE(writer.sync());
  EXPECT_EQ(writer.bytes(), file.bytes().size());
  return file.bytes();
}

TEST(Frames, AreReadAsTheyWereWritten) {
  const Found found = read(file_of(kFrames));
  EXPECT_EQ(found.frames, kFrames);
  EXPECT_TRUE(found.state.is_whole());
}

TEST(Frames, OfAFileThatWasCutAnywhereAreReadUpToTheLastWholeOne) {
  const std::string whole = file_of(kFrames);
  std::vector<std::size_t> ends = {kFileHeaderBytes};
  for (const KeptFrame& frame : kFrames) ends.push_back(ends.back() + kFrameHeaderBytes + frame.payload.size());
  ASSERT_EQ(ends.back(), whole.size());
  for (std::size_t size = kFileHeaderBytes; size < whole.size(); ++size) {
    const Found found = read(whole.substr(0, size));
    std::size_t frames = 0;
    while (frames + 1 < ends.size() && ends[frames + 1] <= size) ++frames;
    ASSERT_EQ(found.frames.size(), frames) << size;
    ASSERT_TRUE(std::equal(found.frames.begin(), found.frames.end(), kFrames.begin())) << size;
    ASSERT_EQ(found.state.left_out, size - ends[frames]) << size;
    ASSERT_FALSE(found.state.ended) << size;
    ASSERT_FALSE(found.state.is_whole()) << size;
  }
}

TEST(Frames, OfWhichAnyByteIsWrongAreLeftOutAndTheOthersAreRead) {
  const std::string whole = file_of(kFrames);
  for (std::size_t at = kFileHeaderBytes; at < whole.size(); ++at) {
    std::string broken = whole;
    broken[at] = static_cast<char>(broken[at] ^ 0x10);
    const Found found = read(broken);
    ASSERT_EQ(found.frames.size(), kFrames.size() - 1) << at;
    ASSERT_GE(found.state.left_out, kFrameHeaderBytes) << at;
    ASSERT_FALSE(found.state.is_whole()) << at;
    std::size_t i = 0;
    for (const KeptFrame& frame : kFrames) {
      if (i < found.frames.size() && found.frames[i] == frame) ++i;
    }
    ASSERT_EQ(i, found.frames.size()) << "a frame that was never written, byte " << at;
  }
}

TEST(Frames, AreFoundBehindBytesThatAreNone) {
  const std::string whole = file_of(kFrames);
  const std::string header = whole.substr(0, kFileHeaderBytes), rest = whole.substr(kFileHeaderBytes);
  for (const std::string& garbage : {std::string("x"), std::string("NSPF"), std::string(5000, 'N'),
                                     std::string("NOPSPAN\0\x09\0\0\0\0\0\0\0", 16), rest.substr(0, 40)}) {
    const Found found = read(header + garbage + rest);
    EXPECT_EQ(found.frames.size(), kFrames.size() + (garbage.starts_with(rest.substr(0, 34)) ? 1 : 0));
    EXPECT_TRUE(found.state.ended);
    EXPECT_GT(found.state.left_out, 0U);
  }
}

TEST(Frames, OfFilesOneAfterTheOtherAreRead) {
  const std::string whole = file_of(kFrames);
  const Found found = read(whole + whole);
  EXPECT_EQ(found.frames.size(), 2 * kFrames.size());
  EXPECT_TRUE(found.state.is_whole());
}

TEST(Frames, OfHugeLengthTakeNoMemoryAndNoTime) {
  std::string bytes = file_of({}) + std::string("NOPSPAN\0\x01\0\0\0\0\0\0\0", 16);
  const std::string frame = file_of({{FrameKind::traces, 1, 1, ""}}).substr(kFileHeaderBytes);
  for (const std::uint32_t length : {0xffffffffU, 0x80000000U, static_cast<std::uint32_t>(kMostPayload) + 1}) {
    std::string wrong = frame;
    std::memcpy(wrong.data() + 8, &length, sizeof(length));
    bytes += wrong;
  }
  bytes += frame;
  const Found found = read(bytes);
  EXPECT_EQ(found.frames.size(), 1U);
  EXPECT_EQ(found.state.left_out, 3 * kFrameHeaderBytes);
}

TEST(Frames, AsLargeAsTheyMayBeAreReadAndLargerOnesAreNotWritten) {
  const TemporaryFile file;
  FrameWriter writer(file.open(O_CREAT | O_WRONLY));
  const std::string most(kMostPayload, 'x'), more(kMostPayload + 1, 'x');
  EXPECT_TRUE(writer.write({FrameKind::traces, 1, 1, most}));
  EXPECT_FALSE(writer.write({FrameKind::traces, 1, 1, more}));
  EXPECT_TRUE(writer.write({FrameKind::end, 0, 1, {}}));
  const Found found = read(file.open());
  ASSERT_EQ(found.frames.size(), 2U);
  EXPECT_EQ(found.frames[0].payload, most);
  EXPECT_TRUE(found.state.is_whole());
}

TEST(Frames, OfAnyBytesAreNone) {
  std::mt19937_64 random(4);
  const std::string whole = file_of(kFrames);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = whole.substr(0, kFileHeaderBytes);
    for (std::uint64_t pieces = random() % 20; pieces > 0; --pieces) {
      const std::size_t at = random() % whole.size();
      bytes += random() % 2 == 0 ? whole.substr(at, random() % 100)
                                 : std::string(random() % 50, static_cast<char>(random()));
    }
    for (const KeptFrame& frame : read(bytes).frames) {
      EXPECT_NE(std::find(kFrames.begin(), kFrames.end(), frame), kFrames.end());
    }
  }
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

TEST(Frames, AreNotLookedForInAFileThatIsNoRecording) {
  EXPECT_EQ(why_not(""), "file: an empty file, and no recording");
  EXPECT_EQ(why_not("%PDF-1.7 and so on, for many bytes"), "file: no recording of nopspan record");
  EXPECT_EQ(why_not("NOPSPAN"), "file: no recording of nopspan record");
  std::string later = file_of(kFrames);
  later[8] = 2;
  EXPECT_EQ(why_not(later), "file: a recording of format 2, and this nopspan reads format 1 alone");
  EXPECT_THROW(FrameReader(OpenFile(::open("/", O_RDONLY)), "/"), Failure);
}

// Limits the size of files, which has the effect of a full disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t most) {
    std::signal(SIGXFSZ, SIG_IGN);
    set(most);
  }
  ~FullDisk() { set(RLIM_INFINITY); }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  static void set(rlim_t most) {
    rlimit limit = {};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = std::min(most, limit.rlim_max);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
};

TEST(Frames, AreWholeOrNotThereOnAFullDisk) {
  const std::string payload(1000, 'p');
  for (rlim_t most = 20; most < 3000; most += 61) {
    const TemporaryFile file;
    FrameWriter writer(file.open(O_CREAT | O_WRONLY));
    std::size_t written = 0;
    {
      const FullDisk full(most);
      for (int i = 0; i < 5; ++i) written += writer.write({FrameKind::traces, 1, 1, payload}) ? 1 : 0;
      EXPECT_EQ(writer.error(), EFBIG);
      ASSERT_EQ(file.bytes().size(), writer.bytes());
    }
    EXPECT_LT(written, 3U);
    EXPECT_TRUE(writer.write({FrameKind::end, 0, 2, {}}));  // there is space again
    const Found found = read(file.open());
    EXPECT_EQ(found.frames.size(), written + 1);
    EXPECT_TRUE(found.state.is_whole());
  }
}

TEST(Frames, AreAppendedToWhatIsInTheFileAlready) {
  const TemporaryFile file;
  const std::string before = file_of(kFrames);
  file.set_bytes(before);
  {
    const FullDisk full(static_cast<rlim_t>(before.size() + 100));
    FrameWriter writer(file.open(O_APPEND | O_WRONLY));
    EXPECT_FALSE(writer.write({FrameKind::traces, 1, 1, std::string(1000, 'p')}));
    EXPECT_TRUE(writer.write({FrameKind::end, 0, 2, {}}));
  }
  const Found found = read(file.open());
  EXPECT_EQ(found.frames.size(), kFrames.size() + 1);
  EXPECT_TRUE(found.state.is_whole());
}

TEST(Frames, ThatAPipeTookAPartOfAreSkippedByItsReader) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
  FrameWriter writer{OpenFile(ends[1])};
  const OpenFile in(ends[0]);
  const std::string payload(100'000, 'N');
  std::size_t written = 0;
  while (writer.write({FrameKind::traces, 1, 1, payload})) ++written;
  EXPECT_EQ(writer.error(), EAGAIN);
  std::string bytes;
  const auto drain = [&] {
    std::string chunk(1U << 16U, '\0');
    for (ssize_t now = 0; (now = ::read(in.get(), chunk.data(), chunk.size())) > 0;) {
      bytes.append(chunk, 0, static_cast<std::size_t>(now));
    }
  };
  drain();
  for (int i = 0; i < 3; ++i) {  // the length of the torn frame swallows the first of these
    EXPECT_TRUE(writer.write({FrameKind::traces, 1, 1, payload}));
    drain();
  }
  EXPECT_TRUE(writer.write({FrameKind::end, 0, 2, {}}));
  drain();
  const Found found = read(bytes);
  EXPECT_GE(found.frames.size(), written + 3);
  EXPECT_GT(found.state.left_out, 0U);
  EXPECT_TRUE(found.state.ended);
}

}  // namespace
