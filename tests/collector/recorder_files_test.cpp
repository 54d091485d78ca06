// SPDX-License-Identifier: Apache-2.0
// The files of a recorder: what it replaces, renames and deletes, and what it never touches.
#include "base/failure.h"
#include "base/stopping.h"
#include "full_disk.h"
#include "kept_entry.h"
#include "recording/recorder.h"
#include "recording/recording.h"
#include "temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <future>
#include <iostream>
#include <random>
#include <streambuf>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr std::uint64_t kFirstTick = 1'790'000'000 * kSecond;

const LedgerSource kNoLedger;

// Adds `count` entries, one hundred per second.
void add_entries(Recorder& recorder, std::size_t count) {
  std::mt19937_64 random(count);
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2)};
  std::uint64_t now = kFirstTick;
  for (std::size_t i = 0; i < count; ++i) {
    if (i % 10 == 0) recorder.on_tick(now += kSecond / 10);
    recorder.on_entry(any_span(random, processes).entry());
  }
  recorder.on_tick(now + kSecond);
}

bool record_to(RecorderOptions options, std::size_t count = 10) {
  Recorder recorder(std::move(options), kNoLedger);
  add_entries(recorder, count);
  return recorder.finish();
}

class RecorderFiles : public testing::Test {
 protected:
  [[nodiscard]] std::string at(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] std::vector<std::string> names() const { return names_in(at("")); }

  // A recording that was last written `age` seconds ago.
  void old_recording(const std::string& name, int age) const {
    ASSERT_TRUE(record_to({at(name)}, 100));
    const timespec times[] = {{::time(nullptr) - age, 0}, {::time(nullptr) - age, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, at(name).c_str(), times, 0), 0);
  }

  void expect_usage_error(RecorderOptions options, const std::string& words) const {
    try {
      const Recorder recorder(std::move(options), kNoLedger);
      ADD_FAILURE() << "it was not refused: " << words;
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit_status, Failure::kUsageError);
      EXPECT_THAT(failure.what(), HasSubstr(words));
    }
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(RecorderFiles, AreNotReplacedUnlessForced) {
  write_file(at("a.rec"), "precious");
  expect_usage_error({at("a.rec")}, "--force");
  EXPECT_EQ(contents_of(at("a.rec")), "precious");
  EXPECT_TRUE(record_to({at("a.rec"), true}));
  EXPECT_TRUE(is_recording(at("a.rec")));
  std::string other = contents_of(at("a.rec"));
  other[kFileMagic.size()] = 1;
  write_file(at("a.rec"), other);
  EXPECT_TRUE(is_recording(at("a.rec"))) << "of another version, for --keep and --keep-total";
}

TEST_F(RecorderFiles, AreNewSoThatOnlyTheirOwnerReadsThem) {
  write_file(at("a.rec"), "another user's");
  ASSERT_EQ(::chmod(at("a.rec").c_str(), 0666), 0);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(at("a.rec").c_str(), 65534, 65534), 0);
  }
  std::filesystem::create_hard_link(at("a.rec"), at("same"));
  EXPECT_TRUE(record_to({at("a.rec"), true}));
  struct stat facts = {};
  ASSERT_EQ(::stat(at("a.rec").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777U, 0600U);
  EXPECT_EQ(facts.st_uid, ::geteuid());
  EXPECT_EQ(contents_of(at("same")), "another user's");
}

TEST_F(RecorderFiles, AreNotWrittenThroughASymbolicLink) {
  write_file(at("precious"), "precious");
  std::filesystem::create_symlink(at("precious"), at("link.rec"));
  std::filesystem::create_symlink(at("none"), at("dangling.rec"));
  for (const char* name : {"link.rec", "dangling.rec"}) {
    for (const bool force : {false, true}) {
      expect_usage_error({at(name), force}, at(name) + " is a symbolic link");
      EXPECT_TRUE(std::filesystem::is_symlink(at(name)));
    }
  }
  EXPECT_EQ(contents_of(at("precious")), "precious");
  EXPECT_THAT(names(), ElementsAre("dangling.rec", "link.rec", "precious"));
  // A link that is made after the check is replaced.
  Recorder recorder({at("late.rec"), true}, kNoLedger);
  std::filesystem::create_symlink(at("precious"), at("late.rec"));
  EXPECT_TRUE(recorder.finish());
  EXPECT_EQ(contents_of(at("precious")), "precious");
  EXPECT_TRUE(is_recording(at("late.rec")));
}

TEST_F(RecorderFiles, AppearWhenTheRecordingStarts) {
  write_file(at("a.rec"), "precious");
  { const Recorder never_started({at("a.rec"), true}, kNoLedger); }
  EXPECT_EQ(contents_of(at("a.rec")), "precious");
  Recorder recorder({at("a.rec"), true}, kNoLedger);
  EXPECT_EQ(contents_of(at("a.rec")), "precious");
  recorder.on_tick(kFirstTick);
  EXPECT_TRUE(is_recording(at("a.rec"))) << "a reader sees the old file or a recording";
  EXPECT_THAT(names(), ElementsAre("a.rec"));
}

TEST_F(RecorderFiles, AreNotReplacedIfSomebodyWasFaster) {
  Recorder recorder({at("a.rec")}, kNoLedger);
  write_file(at("a.rec"), "precious");
  EXPECT_THROW(recorder.on_tick(kFirstTick), Failure);
  EXPECT_EQ(contents_of(at("a.rec")), "precious");
}

TEST_F(RecorderFiles, AreNotLeftOnADiskThatIsFullFromTheBeginning) {
  {
    const FullDisk full(0);
    EXPECT_THROW(Recorder({at("a.rec")}, kNoLedger), Failure);
  }
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(RecorderFiles, CanBeAPipeWithoutAReaderUntilASignal) {
  ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0600), 0);
  interrupted = true;
  EXPECT_THROW(Recorder({at("fifo"), true}, kNoLedger), Failure);
  interrupted = false;
}

TEST_F(RecorderFiles, AreNoPipesOfAnotherUser) {
  ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0666), 0);
  if (!give_to_another_user(at("fifo"))) GTEST_SKIP() << "needs root";
  const OpenFile reader(::open(at("fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  expect_usage_error({at("fifo"), true}, "belongs to another user");
}

TEST_F(RecorderFiles, CanBePipesAndDevices) {
  EXPECT_TRUE(record_to({"/dev/null", true}));
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  expect_usage_error({"/dev/null", true, 1000}, "--max-size needs a regular file");
  EXPECT_THROW(Recorder({"/dev/full", true}, kNoLedger), Failure);
  EXPECT_THROW(Recorder({"/nowhere/at/all"}, kNoLedger), Failure);
  ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0600), 0);
  auto reader = std::async(std::launch::async, [&] { return contents_of(at("fifo")); });
  EXPECT_TRUE(record_to({at("fifo"), true}));
  write_file(at("copy"), reader.get());
  EXPECT_TRUE(is_recording(at("copy")));
  EXPECT_TRUE(std::filesystem::is_fifo(at("fifo")));
  // What the shell makes of >(…).
  std::filesystem::remove(at("copy"));
  const OpenFile copy(::open(at("copy").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  EXPECT_TRUE(record_to({"/dev/fd/" + std::to_string(copy.get()), true}));
  EXPECT_TRUE(is_recording(at("copy")));
}

TEST_F(RecorderFiles, OfRotationAreKeptAsToldAndForceRemovesThoseOfTheRecordingBefore) {
  EXPECT_TRUE(record_to({at("a.rec"), false, 200'000, 2}, 5000));
  EXPECT_THAT(names(), ElementsAre("a.rec", "a.rec.1", "a.rec.2"));
  std::filesystem::remove(at("a.rec"));
  expect_usage_error({at("a.rec"), false, 1000, 2}, "exists");
  EXPECT_TRUE(record_to({at("a.rec"), true, 200'000, 4}, 200));
  EXPECT_THAT(names(), ElementsAre("a.rec"));
}

TEST_F(RecorderFiles, OfRotationWithoutOlderOnesAreReplaced) {
  EXPECT_TRUE(record_to({at("a.rec"), false, 200'000, 0}, 2000));
  EXPECT_THAT(names(), ElementsAre("a.rec"));
}

TEST_F(RecorderFiles, OfOthersWithANameOfRotationAreNotDeleted) {
  write_file(at("a.rec"), "before");
  for (const char* older : {"a.rec.1", "a.rec.4"}) {
    write_file(at(older), "precious");
    expect_usage_error({at("a.rec"), true, 200'000, 4}, at(older) + " exists and is not a recording");
    EXPECT_EQ(contents_of(at(older)), "precious");
    std::filesystem::remove(at(older));
  }
  EXPECT_EQ(contents_of(at("a.rec")), "before");
  // Names that rotation does not make.
  for (const char* name : {"a.rec.5", "a.rec.01", "a.rec.1x", "a.rec.", "a.rec.-1"}) write_file(at(name), "precious");
  EXPECT_TRUE(record_to({at("a.rec"), true, 200'000, 2}, 5000));
  EXPECT_THAT(names(),
              ElementsAre("a.rec", "a.rec.", "a.rec.-1", "a.rec.01", "a.rec.1", "a.rec.1x", "a.rec.2", "a.rec.5"));
}

TEST_F(RecorderFiles, OfOthersThatAppearMeanwhileAreNotDeleted) {
  Recorder recorder({at("a.rec"), false, 100'000, 1}, kNoLedger);
  recorder.on_tick(kFirstTick);
  write_file(at("a.rec.1"), "precious");
  testing::internal::CaptureStderr();
  add_entries(recorder, 3000);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(at("a.rec.1") + " is not a recording"));
  EXPECT_EQ(contents_of(at("a.rec.1")), "precious");
  std::filesystem::rename(at("a.rec.1"), at("elsewhere"));
  add_entries(recorder, 1000);
  EXPECT_TRUE(recorder.finish());
  EXPECT_TRUE(is_recording(at("a.rec.1"))) << "rotation is tried again";

  Recorder another({at("b.rec"), false, 100'000, 1}, kNoLedger);
  another.on_tick(kFirstTick);
  std::filesystem::rename(at("b.rec"), at("moved"));
  write_file(at("b.rec"), "precious");
  testing::internal::CaptureStderr();
  add_entries(another, 3000);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("another file has this name now"));
  EXPECT_EQ(contents_of(at("b.rec")), "precious");
}

TEST_F(RecorderFiles, ThatWereDeletedMeanwhileAreNoRecording) {
  Recorder recorder({at("a.rec")}, kNoLedger);
  recorder.on_tick(kFirstTick);
  recorder.wait_until_written();
  std::filesystem::rename(at("a.rec"), at("moved"));
  testing::internal::CaptureStderr();
  recorder.on_tick(kFirstTick + 2 * kSecond);
  recorder.wait_until_written();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "it only has another name";
  std::filesystem::remove(at("moved"));
  testing::internal::CaptureStderr();
  recorder.on_tick(kFirstTick + 4 * kSecond);
  recorder.wait_until_written();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("a.rec: the file was deleted"));
  EXPECT_FALSE(recorder.finish());
}

TEST_F(RecorderFiles, DoNotGrowBeyondTheirSizeByLedgers) {
  Recorder recorder({at("a.rec"), false, 10'000, 4}, kNoLedger);
  for (std::uint64_t second = 0; second < 1000; ++second) recorder.on_tick(kFirstTick + second * kSecond);
  EXPECT_LE(std::filesystem::file_size(at("a.rec")), 10'000U);
  EXPECT_THAT(names(), ElementsAre("a.rec"));
}

// Replaces std::cerr. Only the thread that makes this object can write to it. Others wait until release().
class BlockedErrors : public std::streambuf {
 public:
  BlockedErrors() : before_(std::cerr.rdbuf(this)) {}
  void wait_until_blocked() { blocked_.get_future().wait(); }
  void release() {
    std::cerr.rdbuf(before_);
    released_.set_value();
  }

 protected:
  int_type overflow(int_type character) override { return traits_type::not_eof(character); }
  std::streamsize xsputn(const char* /*text*/, std::streamsize bytes) override {
    if (std::this_thread::get_id() != main_ && !std::exchange(has_blocked_, true)) {
      blocked_.set_value();
      released_.get_future().wait();
    }
    return bytes;
  }

 private:
  std::streambuf* const before_;
  const std::thread::id main_ = std::this_thread::get_id();
  bool has_blocked_ = false;
  std::promise<void> blocked_, released_;
};

TEST_F(RecorderFiles, MayBlockTheThreadThatDeletesThem) {
  old_recording("1.rec", 100);
  // It fits beside the first file, but must be deleted when that file is full.
  const std::uint64_t bytes = std::filesystem::file_size(at("1.rec"));
  ASSERT_TRUE(15'000 < bytes && bytes < 33'000) << bytes;
  // Never destroyed, because the thread stays.
  static auto& errors = *new BlockedErrors;
  static auto& recorder = *new Recorder({.path = at("2.rec"), .max_bytes = 30'000, .keep_total = 66'000}, kNoLedger);
  recorder.set_live();
  add_entries(recorder, 3000);
  errors.wait_until_blocked();
  EXPECT_FALSE(recorder.finish());
  EXPECT_TRUE(leaves_threads.exchange(false));
  EXPECT_EQ(recorder.totals().files, 1U);
  EXPECT_EQ(recorder.totals().bytes, std::filesystem::file_size(at("2.rec")));
  errors.release();
}

TEST_F(RecorderFiles, OfEarlierStartsAreDeletedTheOldestFirst) {
  old_recording("20260101T000000Z.rec.1", 500);
  old_recording("20260101T000000Z.rec", 400);
  old_recording("20260103T000000Z.rec", 200);
  old_recording("20260102T000000Z.rec", 300);
  const std::uint64_t each = std::filesystem::file_size(at("20260102T000000Z.rec"));
  testing::internal::CaptureStderr();
  EXPECT_TRUE(
      record_to({.path = at("20260104T000000Z.rec"), .max_bytes = 100'000, .keep_total = 100'000 + 2 * (each + 4096)}));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(names(), ElementsAre("20260102T000000Z.rec", "20260103T000000Z.rec", "20260104T000000Z.rec"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 2) << said;
  EXPECT_THAT(said, AllOf(HasSubstr(at("20260101T000000Z.rec.1") + ": deleting it"),
                          HasSubstr(at("20260101T000000Z.rec") + ": deleting it")));
}

TEST_F(RecorderFiles, TogetherStayBelowTheTotal) {
  constexpr std::uint64_t kTotal = 600'000;
  RecorderOptions options{.path = at("1.rec"), .max_bytes = 100'000, .keep = UINT32_MAX, .keep_total = kTotal};
  testing::internal::CaptureStderr();
  for (int start = 1; start < 4; ++start) {
    options.path = at(std::to_string(start) + ".rec");
    EXPECT_TRUE(record_to(options, 3000));
    std::uint64_t sum = 0;
    for (const std::string& name : names()) sum += std::filesystem::file_size(at(name));
    EXPECT_LE(sum, kTotal);
    EXPECT_GT(sum, kTotal / 2);
  }
  EXPECT_NE(testing::internal::GetCapturedStderr(), "");
}

TEST_F(RecorderFiles, ThatAreNoRecordingsOrHaveOtherNamesAreNeverDeletedForTheTotal) {
  old_recording("1.rec", 100);
  for (const char* name : {"spans.rec", "x1.rec", "1.recx", "1.rec.copy"}) old_recording(name, 500);
  for (const char* name : {"2.rec", "3.rec.1"}) write_file(at(name), std::string(200'000, 'x'));
  std::filesystem::create_symlink(at("spans.rec"), at("4.rec"));
  ASSERT_EQ(::mkfifo(at("5.rec").c_str(), 0600), 0);
  std::filesystem::create_directory(at("6.rec"));
  write_file(at("7.rec"), contents_of(at("spans.rec")).substr(0, 40));
  std::vector<std::string> rest = names();
  std::erase(rest, "1.rec");
  rest.emplace_back("9.rec");
  testing::internal::CaptureStderr();
  EXPECT_TRUE(record_to({.path = at("9.rec"), .max_bytes = 1000, .keep_total = 2000}, 1));
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(at("1.rec") + ": deleting it"));
  EXPECT_THAT(names(), testing::UnorderedElementsAreArray(rest));
}

TEST_F(RecorderFiles, OfOthersNeitherCountNorAreDeletedForTheTotal) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  old_recording("1.rec", 100);
  old_recording("2.rec", 500);
  ASSERT_EQ(::chown(at("2.rec").c_str(), 65534, 65534), 0);
  const std::uint64_t total = 100'000 + std::filesystem::file_size(at("2.rec")) + 4096;
  testing::internal::CaptureStderr();
  EXPECT_TRUE(record_to({.path = at("3.rec"), .max_bytes = 100'000, .keep_total = total}, 1));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(names(), ElementsAre("1.rec", "2.rec", "3.rec"));
}

}  // namespace
}  // namespace nopspan::collector
