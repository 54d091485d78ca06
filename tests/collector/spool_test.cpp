// SPDX-License-Identifier: Apache-2.0
// The spool: nothing that was written is lost, wherever the program was killed.
#include "export/spool.h"

#include "base/failure.h"
#include "base/stopping.h"
#include "export/export_queue.h"
#include "full_disk.h"
#include "recording/chunk_format.h"
#include "scripted_transport.h"
#include "temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr ItemCounts kOneSpan = {1, 0, 0, 0}, kOneLog = {0, 0, 1, 0};

// A request with two spans, whose names are a and b.
ExportBody two_spans() {
  return {Signal::traces,
          "\x0a\x0c\x12\x0a\x12\x03\x2a\x01"
          "a\x12\x03\x2a\x01"
          "b",
          {2, 0, 0, 0}};
}

class SpoolTest : public testing::Test {
 protected:
  SpoolTest() {
    options.folder = folder / "spool";
    options.say = [this](const std::string& message) { said.push_back(message); };
    queue_options.back_off = {1ms, 2ms};
  }

  // Writes a body whose bytes are a number. Returns whether it could be written.
  static bool write(Spool& spool, ReceiverAccount& account, std::uint64_t id, Signal signal = Signal::traces) {
    const ExportBody body{signal, std::to_string(id), signal == Signal::traces ? kOneSpan : kOneLog};
    const auto problem = spool.keep(body, false);
    if (problem) {
      account.drop_new(body.items, *problem);
    } else {
      account.spool(body.items);
    }
    return !problem;
  }
  // Writes bodies of spans with the numbers from 1.
  static void write_bodies(Spool& spool, ReceiverAccount& account, std::uint64_t bodies) {
    for (std::uint64_t id = 1; id <= bodies; ++id) EXPECT_TRUE(write(spool, account, id));
  }

  // The path of a file with bodies of one span each, with the numbers from 1.
  std::string written_file(std::uint64_t bodies) {
    ReceiverAccount account;
    Spool spool(options, account);
    write_bodies(spool, account, bodies);
    spool.close(false);
    return options.folder + "/" + data_files()[0];
  }

  // Changes the bytes of the first file between two eighths of it.
  void damage_file(std::size_t first, std::size_t last) const {
    const std::string path = options.folder + "/" + data_files()[0];
    std::string bytes = contents_of(path);
    for (std::size_t i = bytes.size() * first / 8; i < bytes.size() * last / 8; ++i) bytes[i] ^= 1;
    write_file(path, bytes);
  }

  // Sends all that is in the spool. Returns the numbers in the order of the requests.
  std::vector<std::string> send_all(ReceiverAccount& account, bool with_logs = false) {
    ScriptedTransport transport;
    Spool spool(options, account);
    std::optional<Spool> logs;
    if (with_logs) logs.emplace(options_of_logs(), account, &spool);
    {
      ExportQueue queue(queue_options, transport, account, &spool, logs ? &*logs : nullptr);
      EXPECT_TRUE(queue.finish(60s));
    }
    spool.note_reported();
    if (logs) logs->note_reported();
    std::vector<std::string> ids;
    for (const ExportBody& body : transport.posted()) ids.push_back(body.bytes);
    return ids;
  }
  [[nodiscard]] SpoolOptions options_of_logs() const {
    SpoolOptions of_logs = options;
    of_logs.folder += "/logs";
    return of_logs;
  }
  [[nodiscard]] std::vector<std::string> data_files() const {
    std::vector<std::string> names;
    for (const std::string& name : names_in(options.folder)) {
      if (name.ends_with(".nopspan")) names.push_back(name);
    }
    return names;
  }

  const TemporaryFolder folder;
  SpoolOptions options;
  ExportQueueOptions queue_options;
  std::vector<std::string> said;
};

TEST_F(SpoolTest, KeepsBodiesForTheNextRun) {
  {
    ReceiverAccount account;
    Spool spool(options, account);
    write_bodies(spool, account, 6);
    write(spool, account, 7, Signal::logs);
    spool.close(false);
    EXPECT_EQ(account.totals().signals[kTracesRow].spooled, 6U);
    EXPECT_EQ(account.totals().signals[kLogsRow].spooled, 1U);
  }
  EXPECT_EQ(mode_of(options.folder), 0700U);
  for (const std::string& name : data_files()) EXPECT_EQ(mode_of(options.folder + "/" + name), 0600U);
  ReceiverAccount account;
  EXPECT_THAT(send_all(account), ElementsAre("1", "2", "3", "4", "5", "6", "7"));
  const AccountTotals totals = account.totals();
  EXPECT_EQ(totals.signals[kTracesRow].found, 6U);
  EXPECT_EQ(totals.signals[kTracesRow].accepted, 6U);
  EXPECT_EQ(totals.signals[kLogsRow].accepted, 1U);
  EXPECT_EQ(totals.total().resent, 0U);
  EXPECT_TRUE(totals.is_balanced());
  EXPECT_THAT(data_files(), IsEmpty());
  EXPECT_THAT(said, IsEmpty());
}

TEST_F(SpoolTest, IsSentWhenTheReceiverAcceptsAgain) {
  ReceiverAccount account;
  ScriptedTransport transport([](const ExportBody&) { return answer_of(ReceiverAnswer::Kind::retry); });
  Spool spool(options, account);
  ExportQueue queue(queue_options, transport, account, &spool);
  for (std::uint64_t id = 1; id <= 50; ++id) queue.post({Signal::traces, std::to_string(id), kOneSpan});
  transport.wait_for(3);
  transport.set_reply([](const ExportBody&) { return answer_of(ReceiverAnswer::Kind::accepted); });
  EXPECT_TRUE(queue.finish(60s)) << "there is one more attempt";
  EXPECT_EQ(account.totals().signals[kTracesRow].accepted, 50U);
  EXPECT_EQ(account.totals().signals[kTracesRow].resent, 0U);
  EXPECT_TRUE(account.totals().is_balanced());
  EXPECT_EQ(spool.bytes(), 0U);
}

TEST_F(SpoolTest, DoesNotDelayTheEndIfTheReceiverIsDown) {
  ReceiverAccount account;
  ScriptedTransport transport([](const ExportBody&) { return answer_of(ReceiverAnswer::Kind::retry, true); });
  {
    Spool spool(options, account);
    ExportQueue queue(queue_options, transport, account, &spool);
    for (std::uint64_t id = 1; id <= 5; ++id) queue.post({Signal::traces, std::to_string(id), kOneSpan});
    transport.wait_for(2);
    EXPECT_FALSE(queue.finish(1h));
    EXPECT_EQ(account.totals().signals[kTracesRow].spooled, 5U);
    EXPECT_TRUE(account.totals().is_balanced());
  }
  ReceiverAccount next;
  EXPECT_EQ(send_all(next).size(), 5U);
  EXPECT_EQ(next.totals().signals[kTracesRow].resent, 1U) << "the first body may have arrived";
}

TEST_F(SpoolTest, CountsWhatWasAcceptedOfADividedBodyAsResent) {
  const std::string spans = two_spans().bytes;
  ScriptedTransport transport([](const ExportBody& body) {
    if (body.items.spans == 2) return answer_of(AnswerKind::too_large);
    return answer_of(body.bytes.ends_with("a") ? AnswerKind::accepted : AnswerKind::retry);
  });
  {
    ReceiverAccount account;
    Spool spool(options, account);
    spool.keep({Signal::traces, spans, {2, 0, 0, 0}}, false);
    account.spool({2, 0, 0, 0});
    ExportQueue queue(queue_options, transport, account, &spool);
    EXPECT_FALSE(queue.finish(60s));
    EXPECT_EQ(account.totals().signals[kTracesRow].accepted, 1U);
    EXPECT_EQ(account.totals().signals[kTracesRow].spooled, 1U);
  }
  ReceiverAccount next;
  EXPECT_THAT(send_all(next), ElementsAre(spans)) << "a body is read as a whole";
  EXPECT_EQ(next.totals().signals[kTracesRow].resent, 2U) << "the receiver has the first span twice";
  EXPECT_TRUE(next.totals().is_balanced());
}

TEST_F(SpoolTest, KeepsWhatTheMemoryHoldsAtTheEnd) {
  ReceiverAccount account;
  ScriptedTransport transport(
      [](const ExportBody& body) { return answer_of(ReceiverAnswer::Kind::retry, body.signal == Signal::logs); });
  {
    Spool spool(options, account), logs(options_of_logs(), account, &spool);
    ExportQueue queue(queue_options, transport, account, &spool, &logs);
    queue.post({Signal::traces, "1", kOneSpan});
    queue.post({Signal::traces, "2", {1, 3, 0, 0}});
    queue.post({Signal::logs, "3", kOneLog});
    queue.post_metrics({{Signal::metrics, "4", {0, 0, 0, 1}}});
    transport.wait_for(4);
    EXPECT_FALSE(queue.finish(0s));
    const SignalAccount total = account.totals().total();
    EXPECT_EQ(total.spooled, 6U);
    EXPECT_EQ(total.dropped[static_cast<std::size_t>(DropReason::no_time)], 1U) << "metrics become outdated";
    EXPECT_TRUE(account.totals().is_balanced());
  }
  ReceiverAccount next;
  EXPECT_THAT(send_all(next, true), testing::UnorderedElementsAre("1", "2", "3"));
  EXPECT_EQ(next.totals().total().found, 6U);
  EXPECT_EQ(next.totals().total().accepted, 6U);
  EXPECT_EQ(next.totals().total().resent, 1U) << "only the log may have arrived";
  EXPECT_TRUE(next.totals().is_balanced());
}

// A copy of the folder after each request is what is left if the program is killed there.
TEST_F(SpoolTest, SendsAtMostOneBodyAgainAfterACrash) {
  ReceiverAccount account;
  std::uint64_t crashes = 0;
  options.most_bytes = 32U << 10U;  // several files
  const TemporaryFolder copies;
  ScriptedTransport transport([&](const ExportBody&) {
    std::filesystem::copy(options.folder, copies / std::to_string(++crashes), std::filesystem::copy_options::recursive);
    return answer_of(ReceiverAnswer::Kind::accepted);
  });
  const std::uint64_t spans = 80;
  {
    Spool spool(options, account);
    write_bodies(spool, account, spans);
    EXPECT_GT(data_files().size(), 2U);
    ExportQueue queue(queue_options, transport, account, &spool);
    EXPECT_TRUE(queue.finish(60s));
  }
  ASSERT_EQ(crashes, spans);
  const std::string original = options.folder;
  for (std::uint64_t sent = 1; sent <= crashes; ++sent) {
    ReceiverAccount next;
    options.folder = copies / std::to_string(sent);
    const auto ids = send_all(next);
    std::set<std::string> all(ids.begin(), ids.end());
    for (std::uint64_t id = 1; id <= sent; ++id) all.insert(std::to_string(id));
    EXPECT_EQ(all.size(), spans) << "lost after " << sent;
    const std::uint64_t duplicates = ids.size() + sent - spans;
    const AccountTotals totals = next.totals();
    EXPECT_LE(duplicates, totals.signals[kTracesRow].resent);
    EXPECT_LE(totals.signals[kTracesRow].resent, 1U);
    EXPECT_EQ(totals.signals[kTracesRow].found, ids.size());
    EXPECT_TRUE(totals.is_balanced());
  }
  options.folder = original;
}

TEST_F(SpoolTest, ReadsTheWholeBodiesOfAFileThatIsCutAnywhere) {
  std::vector<std::uint64_t> ends;
  std::string whole;
  {
    ReceiverAccount account;
    Spool spool(options, account);
    for (std::uint64_t id = 1; id <= 3; ++id) {
      write(spool, account, id);
      ends.push_back(spool.bytes());
    }
    spool.close(false);
    ASSERT_EQ(data_files().size(), 1U);
    whole = contents_of(options.folder + "/" + data_files()[0]);
  }
  ASSERT_EQ(whole.size(), ends.back());
  const auto is_near_an_end = [&](std::size_t bytes) {
    return std::any_of(ends.begin(), ends.end(),
                       [&](std::uint64_t end) { return bytes + 2 > end && bytes < end + 40; });
  };
  for (std::size_t bytes = 0; bytes <= whole.size(); ++bytes) {
    if (bytes > 60 && bytes % 11 != 0 && !is_near_an_end(bytes)) continue;
    const TemporaryFolder own;
    options.folder = own / "spool";
    ASSERT_EQ(::mkdir(options.folder.c_str(), 0700), 0);
    write_file(options.folder + "/0000000000000001.nopspan", whole.substr(0, bytes));
    write_file(options.folder + "/unsaved", "nopspan-unsaved 1 0 0 0 0\n");
    said.clear();
    ReceiverAccount account;
    const std::size_t sent = send_all(account).size();
    std::size_t bodies = 0;
    for (const std::uint64_t end : ends) bodies += bytes >= end ? 1 : 0;
    EXPECT_EQ(sent, bodies) << bytes;
    const bool is_exact = bytes == 0 || bytes == ends[0] || bytes == ends[1] || bytes == ends[2];
    EXPECT_EQ(said.size(), is_exact ? 1U : 2U) << bytes;  // one of them is about the kill
    EXPECT_TRUE(account.totals().is_balanced());
    EXPECT_EQ(account.totals().total().found,
              account.totals().total().accepted + account.totals().total().all_dropped());
  }
}

TEST_F(SpoolTest, SetsDamagedAndForeignFilesAside) {
  const std::string path = written_file(3);
  std::string bytes = contents_of(path);
  bytes[bytes.size() / 3 * 2 - 1] ^= 1;  // the end of the second body
  write_file(path, bytes);
  write_file(options.folder + "/0000000000000002.nopspan", "this is a text of somebody else, and no recording");
  write_file(options.folder + "/notes.txt", "not a file of the spool");
  ReceiverAccount account;
  EXPECT_THAT(send_all(account), ElementsAre("1", "3")) << "the bodies behind the damaged one are read";
  EXPECT_EQ(account.totals().signals[kTracesRow].dropped[static_cast<std::size_t>(DropReason::disk_error)], 1U);
  EXPECT_TRUE(account.totals().has_losses());
  EXPECT_THAT(said, Contains(HasSubstr("0000000000000001.nopspan: damaged: ")));
  EXPECT_THAT(said,
              Contains(HasSubstr("0000000000000002.nopspan: damaged: renamed to 0000000000000002.nopspan.damaged")));
  EXPECT_THAT(names_in(options.folder), ElementsAre("0000000000000001.nopspan.damaged",
                                                    "0000000000000002.nopspan.damaged", "notes.txt", "position"));
  EXPECT_TRUE(account.totals().is_balanced());
}

// To search 1 TiB would take hours, in which no signal ends the program.
TEST_F(SpoolTest, SetsAFileOfAbsurdLengthAsideAtOnce) {
  const std::string path = written_file(3), absurd = options.folder + "/0000000000000002.nopspan";
  write_file(absurd, contents_of(path));
  constexpr std::uint64_t kTebibyte = 1ULL << 40U;
  if (::truncate(absurd.c_str(), kTebibyte) != 0) GTEST_SKIP() << "the file system has no such files";
  ReceiverAccount account;
  EXPECT_THAT(send_all(account), ElementsAre("1", "2", "3"));
  EXPECT_THAT(said,
              ElementsAre(HasSubstr("0000000000000002.nopspan: is too long for a file of a spool (1 TiB): renamed")));
  EXPECT_EQ(account.totals().unreadable_bytes, kTebibyte);
  EXPECT_TRUE(account.totals().has_losses());
}

TEST_F(SpoolTest, SetsFilesOfAnotherUserAside) {
  const std::string path = written_file(3), foreign = options.folder + "/0000000000000002.nopspan";
  write_file(foreign, contents_of(path));
  if (!give_to_another_user(foreign)) GTEST_SKIP() << "needs root";
  ReceiverAccount account;
  EXPECT_THAT(send_all(account), ElementsAre("1", "2", "3"));
  EXPECT_THAT(said, ElementsAre(HasSubstr("0000000000000002.nopspan: belongs to another user: renamed")));
}

TEST_F(SpoolTest, IsNotReadAfterASignal) {
  written_file(1);
  interrupted = true;
  ReceiverAccount account;
  EXPECT_THROW(Spool(options, account), Failure);
  interrupted = false;
  EXPECT_THAT(send_all(account), ElementsAre("1"));
}

// A larger spool has more files, because longer ones count as damaged.
TEST_F(SpoolTest, HasFilesOfALimitedLength) {
  options.most_bytes = 1ULL << 50U;
  ReceiverAccount account;
  Spool spool(options, account);
  ExportBody body{Signal::traces, std::string(15U << 20U, '\0'), kOneSpan};
  std::mt19937 random;
  std::generate(body.bytes.begin(), body.bytes.end(), [&] { return static_cast<char>(random()); });
  for (int i = 0; i < 6; ++i) EXPECT_FALSE(spool.keep(body, false));
  EXPECT_EQ(data_files().size(), 2U);
}

TEST_F(SpoolTest, ReportsALossIfTheHeadOfABodyIsDamaged) {
  const std::string path = written_file(3);
  std::string bytes = contents_of(path);
  bytes[kFileHeaderBytes + kChunkHeaderBytes + 2] ^= 1;
  write_file(path, bytes);
  ReceiverAccount account;
  EXPECT_THAT(send_all(account), ElementsAre("2", "3"));
  EXPECT_GT(account.totals().unreadable_bytes, 0U);
  EXPECT_TRUE(account.totals().has_losses());
}

TEST_F(SpoolTest, TakesNoTextInACutGroupForAGroup) {
  const std::string text = contents_of(written_file(1)) + "the rest";
  options.folder = folder / "cut";
  {
    ReceiverAccount account;
    Spool spool(options, account);
    spool.keep({Signal::traces, text, {1, 0, 0, 0}}, false);
    spool.close(false);
  }
  const std::string path = options.folder + "/" + data_files()[0];
  const std::string bytes = contents_of(path);
  write_file(path, bytes.substr(0, bytes.size() - 1));
  ReceiverAccount account;
  EXPECT_THAT(send_all(account), IsEmpty());
  EXPECT_EQ(account.totals().signals[kTracesRow].dropped[static_cast<std::size_t>(DropReason::disk_error)], 1U);
}

// A copy of the folder is what is left if the program is killed.
TEST_F(SpoolTest, HasWhatWaitsFromTheFirstFailedAttemptOn) {
  const TemporaryFolder copies;
  ReceiverAccount account;
  ScriptedTransport transport([](const ExportBody&) { return answer_of(AnswerKind::retry); });
  {
    Spool spool(options, account);
    ExportQueue queue(queue_options, transport, account, &spool);
    queue.post({Signal::traces, "1", kOneSpan});
    queue.post({Signal::traces, "2", kOneSpan});
    transport.wait_for(2);
    queue.post({Signal::traces, "3", kOneSpan});
    std::filesystem::copy(options.folder, copies / "killed", std::filesystem::copy_options::recursive);
    transport.set_reply([](const ExportBody&) { return answer_of(AnswerKind::accepted); });
    EXPECT_TRUE(queue.finish(60s));
    EXPECT_EQ(account.totals().total().accepted, 3U);
    EXPECT_FALSE(account.totals().has_losses());
  }
  options.folder = copies / "killed";
  ReceiverAccount next;
  EXPECT_THAT(send_all(next), ElementsAre("1", "2", "3"));
  EXPECT_EQ(next.totals().total().missing, 0U);
}

// The request that fails first is one of the spool.
TEST_F(SpoolTest, HasWhatWaitsWhenOneOfItsOwnRequestsFails) {
  written_file(1);
  ReceiverAccount account;
  ScriptedTransport transport([](const ExportBody&) { return answer_of(AnswerKind::retry); });
  transport.hold(true);
  Spool spool(options, account);
  queue_options.back_off = {1h, 1h};
  ExportQueue queue(queue_options, transport, account, &spool);
  transport.wait_for(1);
  queue.post({Signal::traces, "2", kOneSpan});
  transport.hold(false);
  while (account.totals().total().spooled < 2) std::this_thread::yield();
  EXPECT_EQ(transport.posted().size(), 1U) << "what waits in memory is on disk before it is sent";
  transport.set_reply([](const ExportBody&) { return answer_of(AnswerKind::accepted); });
  EXPECT_TRUE(queue.finish(60s));
  EXPECT_EQ(account.totals().total().accepted, 2U);
}

TEST_F(SpoolTest, HasTheHalvesOfARequestForWhichTheDiskWasFull) {
  ReceiverAccount account;
  ScriptedTransport transport([](const ExportBody&) { return answer_of(AnswerKind::retry); });
  {
    Spool spool(options, account);
    ExportQueue queue(queue_options, transport, account, &spool);
    queue.post({Signal::traces, "1", kOneSpan});
    while (account.totals().total().spooled == 0) std::this_thread::yield();
    {
      const FullDisk full(spool.bytes());
      transport.set_reply([](const ExportBody& body) {
        return answer_of(body.items.spans == 2 ? AnswerKind::too_large : AnswerKind::retry);
      });
      queue.post(two_spans());
      const auto was_divided = [&] {
        const std::vector<ExportBody> posted = transport.posted();
        return std::any_of(posted.begin(), posted.end(), [](const auto& body) { return body.bytes.ends_with("a"); });
      };
      while (!was_divided()) std::this_thread::yield();
    }
    while (account.totals().total().spooled < 3) std::this_thread::yield();
    EXPECT_FALSE(queue.finish(60s));
    spool.close(false);
  }
  ReceiverAccount next;
  EXPECT_EQ(send_all(next).size(), 3U);
  EXPECT_FALSE(next.totals().has_losses());
}

TEST_F(SpoolTest, NamesWhatAKilledRunHadOnlyInMemory) {
  const TemporaryFolder copies;
  ReceiverAccount account;
  {
    Spool spool(options, account);
    spool.note_unsaved({5, 2, 1, 0});
    spool.note_unsaved({4, 2, 0, 0});
    std::filesystem::copy(options.folder, copies / "killed", std::filesystem::copy_options::recursive);
    spool.close(false);
    spool.note_reported();
  }
  EXPECT_THAT(names_in(options.folder), testing::Not(testing::Contains("unsaved")));
  options.folder = copies / "killed";
  ReceiverAccount next;
  {
    const Spool spool(options, next);
    EXPECT_THAT(said, ElementsAre(HasSubstr("the last run was killed or failed. 6 items that it had")));
    EXPECT_EQ(next.totals().signals[kTracesRow].missing, 4U);
    EXPECT_EQ(next.totals().signals[kSpanEventsRow].missing, 2U);
    EXPECT_TRUE(next.totals().is_balanced());
    EXPECT_TRUE(next.totals().has_losses());
  }
  // The account of a run that is killed itself, or fails, is lost.
  for (const std::uint64_t missing : {6, 8, 0}) {
    said.clear();
    ReceiverAccount again;
    Spool spool(options, again);
    EXPECT_EQ(again.totals().total().missing, missing);
    EXPECT_EQ(said.size(), missing > 0 ? 1U : 0U);
    if (missing == 6) spool.note_unsaved({1, 1, 0, 0});
    if (missing == 8) spool.note_reported();
  }
}

TEST_F(SpoolTest, NamesWhatARunThatFailedHadLost) {
  {
    ReceiverAccount account;
    ScriptedTransport transport([](const ExportBody&) { return answer_of(AnswerKind::refused); });
    Spool spool(options, account);
    Spool logs(options_of_logs(), account, &spool);
    ExportQueue queue(queue_options, transport, account, &spool, &logs);
    queue.post({Signal::traces, "1", {3, 2, 0, 0}});
    queue.post({Signal::logs, "2", kOneLog});
    queue.note_unsaved({4, 0, 0, 0}, {});
    while (account.totals().total().refused < 3 + 2 + 1) std::this_thread::yield();
  }
  for (const bool is_reported : {false, true}) {
    ReceiverAccount next;
    Spool spool(options, next);
    Spool logs(options_of_logs(), next, &spool);
    EXPECT_EQ(next.totals().signals[kTracesRow].missing, 3U + 4U);
    EXPECT_EQ(next.totals().signals[kSpanEventsRow].missing, 2U);
    EXPECT_EQ(next.totals().signals[kLogsRow].missing, 1U);
    spool.close(false);
    if (!is_reported) continue;
    spool.note_reported();
    logs.note_reported();
  }
  ReceiverAccount last;
  const Spool spool(options, last);
  EXPECT_FALSE(last.totals().has_losses());
}

TEST_F(SpoolTest, IsNotUsedIfItCannotCountWhatItLoses) {
  ASSERT_EQ(::mkdir(options.folder.c_str(), 0700), 0);
  ASSERT_EQ(::mkdir((options.folder + "/unsaved").c_str(), 0700), 0);
  try {
    ReceiverAccount account;
    const Spool spool(options, account);
    ADD_FAILURE() << "no exception";
  } catch (const Failure& failure) {
    EXPECT_THAT(failure.what(), HasSubstr("/unsaved: Is a directory"));
    EXPECT_EQ(failure.exit_status, Failure::kUsageError);
  }
}

TEST_F(SpoolTest, CountsWhatWasInFilesThatWereRemoved) {
  for (const bool with_folder : {false, true}) {
    ReceiverAccount account;
    Spool spool(options, account);
    write_bodies(spool, account, 3);
    std::filesystem::remove_all(with_folder ? options.folder : options.folder + "/" + data_files().front());
    EXPECT_EQ(write(spool, account, 4), !with_folder);
    EXPECT_EQ(account.totals().total().all_dropped(), with_folder ? 4U : 3U) << "at the next body";
    if (!with_folder) std::filesystem::remove(options.folder + "/" + data_files().front());
    spool.close(false);
    EXPECT_EQ(account.totals().total().all_dropped(), 4U) << "at the end";
    EXPECT_EQ(account.totals().total().spooled, 0U);
    EXPECT_EQ(spool.bytes(), 0U);
    EXPECT_THAT(said, Contains(HasSubstr("files were removed: 3 items")));
    said.clear();
    spool.note_reported();
  }
}

TEST_F(SpoolTest, SendsWhatCameAfterItsFilesWereRemovedDuringARequest) {
  written_file(2);
  ReceiverAccount account;
  ScriptedTransport transport;
  transport.hold(true);
  Spool spool(options, account);
  {
    ExportQueue queue(queue_options, transport, account, &spool);
    transport.wait_for(1);
    EXPECT_TRUE(write(spool, account, 3));
    for (const std::string& name : data_files()) std::filesystem::remove(options.folder + "/" + name);
    EXPECT_TRUE(write(spool, account, 4));
    EXPECT_TRUE(write(spool, account, 5));
    transport.hold(false);
    EXPECT_TRUE(queue.finish(60s));
  }
  std::vector<std::string> ids;
  for (const ExportBody& body : transport.posted()) ids.push_back(body.bytes);
  EXPECT_THAT(ids, ElementsAre("1", "4", "5"));
  EXPECT_EQ(account.totals().total().accepted, 3U);
  EXPECT_EQ(account.totals().total().all_dropped(), 2U);
  EXPECT_TRUE(account.totals().is_balanced());
  EXPECT_EQ(spool.bytes(), 0U);
}

TEST_F(SpoolTest, CountsAFileThatWasEmptiedAfterAnOrderlyEnd) {
  std::filesystem::resize_file(written_file(3), 0);
  ReceiverAccount account;
  EXPECT_THAT(send_all(account), IsEmpty());
  EXPECT_TRUE(account.totals().has_losses());
  EXPECT_THAT(said, ElementsAre(HasSubstr("is empty")));
}

// The file that a program was about to write when it was killed.
TEST_F(SpoolTest, DoesNotCountAnEmptyFileOfAKilledRun) {
  const TemporaryFolder copies;
  {
    ReceiverAccount account;
    const Spool spool(options, account);
    std::filesystem::copy(options.folder, copies / "killed");
  }
  options.folder = copies / "killed";
  write_file(options.folder + "/0000000000000001.nopspan", "");
  ReceiverAccount account;
  EXPECT_THAT(send_all(account), IsEmpty());
  EXPECT_FALSE(account.totals().has_losses());
}

TEST_F(SpoolTest, HasWhatWaitsWhileARequestHasNoAnswer) {
  ReceiverAccount account;
  ScriptedTransport transport;
  transport.hold(true);
  Spool spool(options, account);
  Spool logs(options_of_logs(), account, &spool);
  ExportQueue queue(queue_options, transport, account, &spool, &logs);
  queue.post_metrics({{Signal::metrics, "0", {0, 0, 0, 1}}});
  transport.wait_for(1);
  queue.post({Signal::traces, "1", kOneSpan});
  queue.post({Signal::logs, "2", kOneLog});
  while (account.totals().total().spooled < 2) {
    queue.note_unsaved({}, {});
    std::this_thread::sleep_for(10ms);
  }
  queue.post({Signal::traces, "3", kOneSpan});
  EXPECT_EQ(account.totals().total().spooled, 3U);
  EXPECT_EQ(transport.posted().size(), 1U);
  transport.hold(false);
  EXPECT_TRUE(queue.finish(60s));
  EXPECT_EQ(account.totals().total().accepted, 4U);
}

TEST_F(SpoolTest, MakesASourceWaitWhileItIsFullAndTheReceiverAccepts) {
  queue_options.capacity_bytes = 1;
  queue_options.refuses = false;
  options.most_bytes = 1000;
  ReceiverAccount account;
  ScriptedTransport transport;
  transport.hold(true);
  Spool spool(options, account);
  ExportQueue queue(queue_options, transport, account, &spool);
  queue.post({Signal::traces, "0", kOneSpan});
  transport.wait_for(1);
  std::uint64_t posted = 1;
  for (; queue.has_space(Signal::traces); ++posted) queue.post({Signal::traces, "body", kOneSpan});
  EXPECT_GT(account.totals().total().spooled, 0U);
  EXPECT_EQ(account.totals().total().all_dropped(), 0U);
  transport.hold(false);
  while (!queue.has_space(Signal::traces)) std::this_thread::yield();
  EXPECT_TRUE(queue.finish(60s));
  EXPECT_EQ(account.totals().total().accepted, posted);
}

TEST_F(SpoolTest, DoesNotWaitForMetricsIfItsBodiesStay) {
  ReceiverAccount account;
  ScriptedTransport transport([](const ExportBody&) { return answer_of(AnswerKind::retry); });
  Spool spool(options, account);
  ExportQueue queue(queue_options, transport, account, &spool);
  queue.post({Signal::traces, "1", kOneSpan});
  queue.post_metrics({{Signal::metrics, "2", {0, 0, 0, 1}}});
  EXPECT_FALSE(queue.finish(1h));
  EXPECT_EQ(account.totals().total().spooled, 1U);
  EXPECT_EQ(account.totals().signals[kMetricsRow].all_dropped(), 1U);
}

TEST_F(SpoolTest, ReportsAKilledRunWhoseNoteIsNotReadable) {
  for (const char* const text : {"", "garbage", "nopspan-unsaved 1 18446744073709551615 1 0 0\n"}) {
    {
      ReceiverAccount account;
      const Spool spool(options, account);
      EXPECT_FALSE(account.totals().has_losses());
    }
    write_file(options.folder + "/unsaved", text);
    for (const char* const expected : {"nobody knows how many items", "the last run was killed or failed"}) {
      said.clear();
      ReceiverAccount account;
      Spool spool(options, account);
      EXPECT_THAT(said, ElementsAre(HasSubstr(expected))) << text;
      EXPECT_TRUE(account.totals().has_losses()) << "also if the first run fails";
      spool.close(false);
      if (std::string_view(expected).starts_with("the last")) spool.note_reported();
    }
  }
}

// What is behind the whole bodies was counted by the run that found it.
TEST_F(SpoolTest, CountsTheCutEndOfAFileOnce) {
  const std::string path = written_file(3);
  for (const std::size_t cut : {8, 200}) {
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - cut);
    for (const bool is_first : {true, false}) {
      ReceiverAccount account;
      Spool spool(options, account);
      EXPECT_EQ(account.totals().has_losses(), is_first) << cut;
      spool.close(false);
      spool.note_reported();
    }
  }
}

TEST_F(SpoolTest, CountsADamagedBodyOnceIfTheRunIsKilled) {
  const std::string path = written_file(4);
  std::string bytes = contents_of(path);
  bytes[bytes.size() * 3 / 4 - 1] ^= 1;  // the last one of the third body
  write_file(path, bytes);
  const TemporaryFolder copies;
  for (const char* const name : {"first", "second", "third"}) {
    ReceiverAccount account;
    const Spool spool(options, account);
    EXPECT_EQ(account.totals().total().all_dropped(), 1U);
    EXPECT_EQ(account.totals().total().missing, 0U);
    std::filesystem::copy(options.folder, copies / name, std::filesystem::copy_options::recursive);
    options.folder = copies / name;
  }
}

TEST_F(SpoolTest, SendsEverythingIfThePositionIsBehindSeveralFiles) {
  options.most_bytes = 8000;  // for several files
  const std::string path = written_file(6);
  ASSERT_GE(data_files().size(), 2U);
  write_file(options.folder + "/position", "nopspan-spool 1 " + std::to_string(data_files().size() + 1) + " 0 0 0\n");
  ReceiverAccount account;
  EXPECT_EQ(send_all(account).size(), 6U);
  EXPECT_THAT(said, Contains(HasSubstr("is not of these files")));
}

// After a power failure, the end of a file may have zeros. Only what may be one body that was cut is not counted.
TEST_F(SpoolTest, CountsAFileThatEndsInZeros) {
  const std::string whole = contents_of(written_file(3));
  const std::size_t body = whole.size() / 3;
  for (std::size_t begin = 0; begin < whole.size(); begin += begin % body < 64 ? 1 : 7) {
    const TemporaryFolder own;
    options.folder = own / "spool";
    ASSERT_EQ(::mkdir(options.folder.c_str(), 0700), 0);
    const std::string path = options.folder + "/0000000000000001.nopspan";
    const std::string bytes = whole.substr(0, begin) + std::string(whole.size() - begin, '\0');
    if (bytes == whole) break;  // it ends in a zero
    write_file(path, bytes);
    std::size_t bodies = 0;
    while (bytes.starts_with(whole.substr(0, (bodies + 1) * body))) ++bodies;
    ReceiverAccount account;
    EXPECT_EQ(send_all(account).size(), bodies) << begin;
    EXPECT_TRUE(account.totals().has_losses()) << begin;
    EXPECT_THAT(names_in(options.folder), Contains("0000000000000001.nopspan.damaged")) << begin;
    if (bodies < 2) {
      EXPECT_GE(account.totals().unreadable_bytes, whole.size() - begin - body) << begin;
    }
  }
}

TEST_F(SpoolTest, OfOneSignalDoesNotKeepAnotherOneWaiting) {
  ReceiverAccount account;
  ScriptedTransport transport([](const ExportBody& body) {
    return answer_of(body.signal == Signal::logs ? AnswerKind::retry : AnswerKind::accepted);
  });
  Spool spool(options, account);
  write(spool, account, 2);
  Spool logs(options_of_logs(), account, &spool);
  {
    ExportQueue queue(queue_options, transport, account, &spool, &logs);
    queue.post({Signal::logs, "3", kOneLog});
    while (account.totals().signals[kTracesRow].accepted == 0) std::this_thread::yield();
    queue.post({Signal::traces, "4", kOneSpan});
    EXPECT_FALSE(queue.finish(60s));
  }
  EXPECT_EQ(account.totals().signals[kLogsRow].spooled, 1U);
  EXPECT_TRUE(account.totals().is_balanced());
  EXPECT_EQ(spool.bytes(), 0U);
  EXPECT_GT(logs.bytes(), 0U);
}

TEST_F(SpoolTest, LeavesAQuarterOfItsSpaceToTheOneBesideIt) {
  options.most_bytes = 8000;
  ReceiverAccount account;
  Spool spool(options, account);
  Spool beside(options_of_logs(), account, &spool);
  for (int i = 0; i < 60; ++i) spool.keep({Signal::traces, "body", kOneSpan}, false);
  EXPECT_GT(spool.bytes(), 5000U);
  EXPECT_LE(spool.bytes(), 6000U);
  for (int i = 0; i < 60; ++i) beside.keep({Signal::logs, "body", kOneLog}, false);
  EXPECT_GT(beside.bytes(), 1000U);
  EXPECT_LE(spool.bytes() + beside.bytes(), 8000U);
}

TEST_F(SpoolTest, WaitsUntilARefusalIsMended) {
  ReceiverAccount account;
  std::atomic<bool> has_token = false;
  ScriptedTransport transport([&](const ExportBody&) {
    ReceiverAnswer answer = answer_of(has_token ? AnswerKind::accepted : AnswerKind::refused);
    answer.may_be_mended = true;
    return answer;
  });
  Spool spool(options, account);
  ExportQueue queue(queue_options, transport, account, &spool);
  queue.post({Signal::traces, "1", kOneSpan});
  queue.post_metrics({{Signal::metrics, "2", {0, 0, 0, 1}}});
  transport.wait_for(4);
  EXPECT_EQ(account.totals().signals[kMetricsRow].refused, 1U) << "newer ones follow";
  has_token = true;
  EXPECT_TRUE(queue.finish(60s));
  EXPECT_EQ(account.totals().signals[kTracesRow].accepted, 1U);
}

TEST_F(SpoolTest, KeepsTheSignalsThatAreNotWanted) {
  written_file(3);
  queue_options.traces = false;
  ReceiverAccount account;
  ScriptedTransport transport;
  {
    Spool spool(options, account);
    Spool logs(options_of_logs(), account, &spool);
    EXPECT_TRUE(write(logs, account, 4, Signal::logs));
    ExportQueue queue(queue_options, transport, account, &spool, &logs);
    queue.finish(60s);
  }
  EXPECT_EQ(account.totals().signals[kLogsRow].accepted, 1U);
  EXPECT_EQ(account.totals().signals[kTracesRow].spooled, 3U);
  EXPECT_EQ(transport.posted().size(), 1U);
  queue_options.traces = true;
  ReceiverAccount next;
  EXPECT_THAT(send_all(next), ElementsAre("1", "2", "3"));
}

TEST_F(SpoolTest, ReadsWhatIsBeforeAndBehindDamageAndCountsTheRest) {
  struct Case {
    std::size_t first, last;  // eighths of the file
    std::uint64_t damaged;
  };
  for (const auto& [first, last, damaged] : {Case{4, 8, 2}, Case{3, 4, 1}}) {
    options.folder = folder / std::to_string(damaged);
    ReceiverAccount account;
    ScriptedTransport transport;
    Spool spool(options, account);
    write_bodies(spool, account, 4);
    damage_file(first, last);
    ExportQueue queue(queue_options, transport, account, &spool);
    EXPECT_TRUE(queue.finish(60s));
    EXPECT_EQ(transport.posted().size(), 4 - damaged);
    const SignalAccount traces = account.totals().signals[kTracesRow];
    EXPECT_EQ(traces.accepted, 4 - damaged);
    EXPECT_EQ(traces.dropped[static_cast<std::size_t>(DropReason::disk_error)], damaged);
    EXPECT_TRUE(traces.is_balanced());
    EXPECT_THAT(names_in(options.folder), Contains("0000000000000001.nopspan.damaged"));
  }
}

TEST_F(SpoolTest, DropsNothingWhileThereAreTooManyOpenFiles) {
  ReceiverAccount account;
  ScriptedTransport transport;
  Spool spool(options, account);
  write_bodies(spool, account, 3);
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none = {0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_FALSE(spool.read().has_value());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ExportQueue queue(queue_options, transport, account, &spool);
  EXPECT_TRUE(queue.finish(60s));
  EXPECT_EQ(account.totals().total().accepted, 3U);
}

TEST_F(SpoolTest, RefusesABodyThatItWouldNotRead) {
  ReceiverAccount account;
  Spool spool(options, account);
  const ExportBody body{Signal::traces, std::string(kMostPayload + 1, 'x'), kOneSpan};
  EXPECT_EQ(spool.keep(body, false), DropReason::disk_error);
  EXPECT_TRUE(spool.is_empty());
  EXPECT_THAT(said, ElementsAre(HasSubstr("File too large")));
}

TEST_F(SpoolTest, IsFullAtItsLimit) {
  options.most_bytes = 2000;
  ReceiverAccount account;
  Spool spool(options, account);
  std::uint64_t written = 0;
  for (std::uint64_t id = 1; id <= 100; ++id) written += write(spool, account, id) ? 1 : 0;
  EXPECT_LE(spool.bytes(), 2000U);
  const SignalAccount traces = account.totals().signals[kTracesRow];
  EXPECT_GT(written, 1U);
  EXPECT_EQ(traces.spooled, written);
  EXPECT_EQ(traces.dropped[static_cast<std::size_t>(DropReason::spool_full)], 100 - written);
  EXPECT_TRUE(traces.is_balanced());
  EXPECT_THAT(said, ElementsAre(HasSubstr("the spool is full (2 KiB)")));
}

TEST_F(SpoolTest, SurvivesADiskThatIsFull) {
  ReceiverAccount account;
  Spool spool(options, account);
  write_bodies(spool, account, 2);
  const std::uint64_t before = spool.bytes();
  std::uint64_t attempts = 0;
  for (std::uint64_t most = before; most < before + before / 2; most += 20, ++attempts) {
    const FullDisk full(most);
    EXPECT_FALSE(write(spool, account, 3));
  }
  EXPECT_TRUE(write(spool, account, 4));
  spool.close(false);
  const SignalAccount traces = account.totals().signals[kTracesRow];
  EXPECT_EQ(traces.spooled, 3U);
  EXPECT_EQ(traces.dropped[static_cast<std::size_t>(DropReason::disk_error)], attempts);
  EXPECT_THAT(said, ElementsAre(HasSubstr("File too large: entries are dropped")));
  EXPECT_TRUE(traces.is_balanced());
}

// Its blocks are needed if the disk is full before the first request.
TEST_F(SpoolTest, HasItsPositionBeforeItHasBodies) {
  ReceiverAccount account;
  const Spool spool(options, account);
  EXPECT_THAT(names_in(options.folder), ElementsAre("position", "unsaved"));
}

TEST_F(SpoolTest, RemembersWhatMayHaveArrivedWhileRunsSendNothing) {
  const std::string path = written_file(3);
  const TemporaryFolder copies;
  {
    ReceiverAccount account;
    ScriptedTransport transport([&](const ExportBody&) {
      using std::filesystem::copy_options;
      std::filesystem::copy(options.folder, copies / "killed", copy_options::recursive | copy_options::skip_existing);
      return answer_of(ReceiverAnswer::Kind::accepted);
    });
    Spool spool(options, account);
    ExportQueue queue(queue_options, transport, account, &spool);
    EXPECT_TRUE(queue.finish(60s));
  }
  options.folder = copies / "killed";
  const auto run_without_receiver = [&] {
    ReceiverAccount account;
    Spool spool(options, account);
    spool.close(false);
  };
  run_without_receiver();
  ReceiverAccount next;
  EXPECT_EQ(send_all(next).size(), 3U);
  EXPECT_EQ(next.totals().signals[kTracesRow].resent, 1U);
  options.folder = folder / "lost";
  written_file(3);
  write_file(options.folder + "/position", "garbage");
  run_without_receiver();
  run_without_receiver();
  ReceiverAccount last;
  EXPECT_EQ(send_all(last).size(), 3U);
  EXPECT_EQ(last.totals().signals[kTracesRow].resent, 3U);
}

TEST_F(SpoolTest, ReadsEverythingAgainIfItsPositionIsLostOrOfAnotherSpool) {
  const std::string begin = "nopspan-spool 1 ", again = "all files of the spool are sent again";
  const std::pair<std::string, std::string> cases[] = {{"garbage", "position is not readable"},
                                                       {begin + "1 5 0\n", again},
                                                       {begin + "1 99999 0\n", again},
                                                       {begin + "3 0 0\n", again},
                                                       {begin + "99999999999999999999999 0 0\n", again},
                                                       {begin + "18446744073709551615 7 0\n", again}};
  for (const auto& [position, words] : cases) {
    written_file(3);
    write_file(options.folder + "/position", position);
    said.clear();
    ReceiverAccount account;
    EXPECT_EQ(send_all(account).size(), 3U) << position;
    EXPECT_EQ(account.totals().signals[kTracesRow].resent, 3U) << position;
    EXPECT_THAT(said, ElementsAre(HasSubstr(words)));
    std::filesystem::remove_all(options.folder);
  }
}

TEST_F(SpoolTest, LeavesFilesWithImpossibleNumbersAlone) {
  ASSERT_TRUE(std::filesystem::create_directory(options.folder));
  write_file(options.folder + "/18446744073709551615.nopspan", "");
  written_file(3);
  ReceiverAccount account;
  EXPECT_EQ(send_all(account).size(), 3U);
  EXPECT_THAT(data_files(), ElementsAre("18446744073709551615.nopspan"));
}

TEST_F(SpoolTest, BelongsToOneExporter) {
  ReceiverAccount account;
  const auto failure = [&] {
    try {
      const Spool second(options, account);
    } catch (const Failure& failed) {
      EXPECT_EQ(failed.exit_status, Failure::kUsageError);
      return std::string(failed.what());
    }
    return std::string("no failure");
  };
  {
    const Spool first(options, account);
    EXPECT_THAT(failure(), HasSubstr("another nopspan export uses it"));
  }
  EXPECT_EQ(failure(), "no failure");
  ASSERT_EQ(::chmod(options.folder.c_str(), 0770), 0);
  EXPECT_THAT(failure(), HasSubstr("other users can change it"));
  options.folder = folder / "file";
  write_file(options.folder, "");
  EXPECT_THAT(failure(), HasSubstr("Not a directory"));
  options.folder = folder / "no/such";
  EXPECT_THAT(failure(), HasSubstr("No such file"));
}

}  // namespace
}  // namespace nopspan::collector
