// SPDX-License-Identifier: Apache-2.0
// The spool: nothing that was written is lost, wherever the program was killed.
#include "export/spool.h"

#include "base/failure.h"
#include "export/export_queue.h"
#include "full_disk.h"
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
#include <optional>
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
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr ItemCounts kOneSpan = {1, 0, 0, 0}, kOneLog = {0, 0, 1, 0};

const ExportBody kOnePoint = {Signal::metrics, "metrics", {0, 0, 0, 1}};

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

  // Begins a run with an account of its own.
  Spool& open() {
    end();
    account.emplace();
    return spool.emplace(options, *account);
  }
  // Begins a run that sends.
  ExportQueue& start() {
    open();
    return queue.emplace(queue_options, transport, *account, &*spool);
  }
  ExportQueue& start(ScriptedTransport::Reply reply) {
    transport.set_reply(std::move(reply));
    return start();
  }
  void end() {
    queue.reset();
    spool.reset();
  }
  // Of the run that began last.
  [[nodiscard]] SignalAccount row(AccountRow of) const { return account->totals().signals[of]; }
  [[nodiscard]] SignalAccount total() const { return account->totals().total(); }

  // Writes a body whose bytes are a number. Returns whether it could be written.
  bool write(std::uint64_t id, Signal signal = Signal::traces) {
    const ExportBody body{signal, std::to_string(id), signal == Signal::traces ? kOneSpan : kOneLog};
    const auto problem = spool->keep(body, false);
    if (problem) {
      account->drop_new(body.items, *problem);
    } else {
      account->add(body.items, &SignalAccount::spooled);
    }
    return !problem;
  }
  // Writes bodies of spans with the numbers from 1.
  void write_bodies(std::uint64_t bodies) {
    for (std::uint64_t id = 1; id <= bodies; ++id) EXPECT_TRUE(write(id));
  }
  // A spool of an earlier run with bodies of one span each, with the numbers from 1.
  void write_earlier(std::uint64_t bodies) {
    open();
    write_bodies(bodies);
    spool->close();
    end();
  }

  // Sends all that is in the spool. Returns the numbers in the order of the requests.
  std::vector<std::string> send_all() {
    ScriptedTransport receiver;
    open();
    queue.emplace(queue_options, receiver, *account, &*spool);
    EXPECT_TRUE(queue->finish(60s));
    EXPECT_TRUE(account->totals().is_balanced());
    spool->note_reported();
    end();
    return ids_of(receiver);
  }
  // Why another exporter cannot use the spool.
  [[nodiscard]] std::string failure_to_open() const {
    try {
      ReceiverAccount other;
      const Spool second(options, other);
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit_status, Failure::kUsageError);
      return failure.what();
    }
    return "no failure";
  }
  static std::vector<std::string> ids_of(const ScriptedTransport& receiver) {
    std::vector<std::string> ids;
    for (const ExportBody& body : receiver.posted()) ids.push_back(body.bytes);
    return ids;
  }
  [[nodiscard]] std::string path_of(const std::string& name) const { return options.folder + "/" + name; }
  [[nodiscard]] std::vector<std::string> data_files() const {
    std::vector<std::string> names;
    for (const std::string& name : names_in(options.folder)) {
      if (name.ends_with(".otlp.gz")) names.push_back(name);
    }
    return names;
  }
  // What is left if the program is killed now.
  void copy_to(const std::string& path) const {
    std::filesystem::copy(options.folder, path, std::filesystem::copy_options::recursive);
  }

  const TemporaryFolder folder;
  SpoolOptions options;
  ExportQueueOptions queue_options;
  std::vector<std::string> said;
  ScriptedTransport transport;
  std::optional<ReceiverAccount> account;
  std::optional<Spool> spool;
  std::optional<ExportQueue> queue;
};

// Of the first span of a spool.
constexpr const char* kFirstName = "0000000000000001-1-0-0.otlp.gz";
constexpr auto kDiskError = static_cast<std::size_t>(DropReason::disk_error);

ReceiverAnswer accept_all(const ExportBody& /*body*/) { return answer_of(AnswerKind::accepted); }
ReceiverAnswer fail(const ExportBody& /*body*/) { return answer_of(AnswerKind::retry); }

TEST_F(SpoolTest, KeepsBodiesForTheNextRun) {
  open();
  write_bodies(6);
  write(7, Signal::logs);
  spool->close();
  EXPECT_EQ(row(kTracesRow).spooled, 6U);
  EXPECT_EQ(row(kLogsRow).spooled, 1U);
  end();
  EXPECT_EQ(mode_of(options.folder), 0700U);
  EXPECT_THAT(data_files(), Contains(kFirstName));
  for (const std::string& name : data_files()) EXPECT_EQ(mode_of(path_of(name)), 0600U);
  EXPECT_THAT(send_all(), testing::UnorderedElementsAre("1", "2", "3", "4", "5", "6", "7"));
  EXPECT_EQ(row(kTracesRow).found, 6U);
  EXPECT_EQ(row(kTracesRow).accepted, 6U);
  EXPECT_EQ(row(kLogsRow).accepted, 1U);
  EXPECT_EQ(total().resent, 0U);
  EXPECT_THAT(data_files(), IsEmpty());
  EXPECT_THAT(said, IsEmpty());
}

TEST_F(SpoolTest, DoesNotDelayTheEndIfTheReceiverIsDown) {
  ExportQueue& sending = start([](const ExportBody&) { return answer_of(AnswerKind::retry, true); });
  for (std::uint64_t id = 1; id <= 5; ++id) sending.post({Signal::traces, std::to_string(id), kOneSpan});
  transport.wait_for(2);
  EXPECT_FALSE(sending.finish(1h));
  EXPECT_EQ(row(kTracesRow).spooled, 5U);
  EXPECT_TRUE(account->totals().is_balanced());
  EXPECT_EQ(send_all().size(), 5U);
  EXPECT_EQ(row(kTracesRow).resent, 1U) << "the first body may have arrived";
}

TEST_F(SpoolTest, MarksWhatIsBeingSent) {
  write_earlier(2);
  std::atomic<bool> was_marked = true;
  ExportQueue& sending = start([&](const ExportBody&) {
    was_marked = was_marked && mode_of(path_of(kFirstName)) == 0400;
    return answer_of(AnswerKind::retry);
  });
  transport.wait_for(2);
  EXPECT_FALSE(sending.finish(0s));
  EXPECT_TRUE(was_marked);
  for (const std::string& name : data_files()) EXPECT_EQ(mode_of(path_of(name)), 0600U) << "it has not arrived";
}

TEST_F(SpoolTest, CountsWhatWasAcceptedOfADividedBodyAsResent) {
  open().keep(two_spans(), false);
  end();
  ExportQueue& sending = start([](const ExportBody& body) {
    if (body.items.spans == 2) return answer_of(AnswerKind::too_large);
    return answer_of(body.bytes.ends_with("a") ? AnswerKind::accepted : AnswerKind::retry);
  });
  EXPECT_FALSE(sending.finish(60s));
  EXPECT_EQ(row(kTracesRow).accepted, 1U);
  EXPECT_EQ(row(kTracesRow).spooled, 1U);
  EXPECT_THAT(send_all(), ElementsAre(two_spans().bytes)) << "a body is read as a whole";
  EXPECT_EQ(row(kTracesRow).resent, 2U) << "the receiver has the first span twice";
}

TEST_F(SpoolTest, KeepsWhatTheMemoryHoldsAtTheEnd) {
  ExportQueue& sending =
      start([](const ExportBody& body) { return answer_of(AnswerKind::retry, body.signal == Signal::logs); });
  sending.post({Signal::traces, "1", kOneSpan});
  sending.post({Signal::traces, "2", {1, 3, 0, 0}});
  sending.post({Signal::logs, "3", kOneLog});
  sending.post_metrics({kOnePoint});
  transport.wait_for(4);
  EXPECT_FALSE(sending.finish(0s));
  EXPECT_EQ(total().spooled, 6U);
  EXPECT_EQ(total().dropped[static_cast<std::size_t>(DropReason::no_time)], 1U) << "metrics become outdated";
  EXPECT_TRUE(account->totals().is_balanced());
  EXPECT_THAT(send_all(), testing::UnorderedElementsAre("1", "2", "3"));
  EXPECT_EQ(total().found, 6U);
  EXPECT_EQ(total().accepted, 6U);
  EXPECT_EQ(total().resent, 1U) << "only the log may have arrived";
}

// A copy of the folder after each request is what is left if the program is killed there.
TEST_F(SpoolTest, SendsAtMostOneBodyAgainAfterACrash) {
  constexpr std::uint64_t kSpans = 80;
  write_earlier(kSpans);
  std::uint64_t crashes = 0;
  const TemporaryFolder copies;
  ExportQueue& sending = start([&](const ExportBody&) {
    copy_to(copies / std::to_string(++crashes));
    return answer_of(AnswerKind::accepted);
  });
  EXPECT_TRUE(sending.finish(60s));
  end();
  ASSERT_EQ(crashes, kSpans);
  for (std::uint64_t sent = 1; sent <= crashes; ++sent) {
    options.folder = copies / std::to_string(sent);
    const auto ids = send_all();
    std::set<std::string> all(ids.begin(), ids.end());
    for (std::uint64_t id = 1; id <= sent; ++id) all.insert(std::to_string(id));
    EXPECT_EQ(all.size(), kSpans) << "lost after " << sent;
    const std::uint64_t duplicates = ids.size() + sent - kSpans;
    EXPECT_LE(duplicates, row(kTracesRow).resent);
    EXPECT_LE(row(kTracesRow).resent, 1U);
    EXPECT_EQ(row(kTracesRow).found, ids.size());
  }
}

// A power failure can cut a file, or leave zeros in it.
TEST_F(SpoolTest, DropsAFileThatIsCutAnywhere) {
  write_earlier(3);
  const std::string second = data_files()[1], whole = contents_of(path_of(second)), original = options.folder;
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    for (const std::string& rest : {std::string(), std::string(whole.size() - bytes, '\0')}) {
      if (whole.substr(0, bytes) + rest == whole) continue;  // it ends in a zero
      const TemporaryFolder own;
      copy_to(own / "spool");
      options.folder = own / "spool";
      write_file(path_of(second), whole.substr(0, bytes) + rest);
      said.clear();
      EXPECT_THAT(send_all(), ElementsAre("1", "3")) << bytes;
      EXPECT_EQ(total().dropped[kDiskError], 1U) << bytes;
      EXPECT_THAT(said, ElementsAre(HasSubstr("/" + second + ": damaged: renamed to "))) << bytes;
      EXPECT_THAT(names_in(options.folder), ElementsAre(second + ".damaged"));
      options.folder = original;
    }
  }
}

TEST_F(SpoolTest, SetsDamagedAndForeignFilesAside) {
  write_earlier(3);
  const std::string second = "0000000000000002-1-0-0.otlp.gz", foreign = "18446744073709551615-1-0-0.otlp.gz";
  std::string bytes = contents_of(path_of(second));
  bytes[bytes.size() / 2] ^= 1;
  write_file(path_of(second), bytes);
  write_file(path_of(foreign), "of somebody else");
  write_file(path_of("notes.txt"), "not a file of the spool");
  std::filesystem::create_symlink(path_of(kFirstName), path_of("0000000000000004-0-0-5.otlp.gz"));
  EXPECT_THAT(send_all(), ElementsAre("1", "3"));
  EXPECT_EQ(row(kTracesRow).dropped[kDiskError], 1U);
  EXPECT_EQ(row(kLogsRow).dropped[kDiskError], 5U);
  EXPECT_EQ(account->totals().unreadable_bytes, 16U);
  EXPECT_THAT(said, Contains(HasSubstr(second + ": damaged: renamed to " + second + ".damaged")));
  EXPECT_THAT(said, Contains(HasSubstr("0000000000000004-0-0-5.otlp.gz: is not a regular file: renamed")));
  EXPECT_THAT(said, Contains(HasSubstr(foreign + ": is not the name of a file of a spool: renamed")));
  EXPECT_THAT(names_in(options.folder), ElementsAre(second + ".damaged", "0000000000000004-0-0-5.otlp.gz.damaged",
                                                    foreign + ".damaged", "notes.txt"));
}

TEST_F(SpoolTest, NamesFilesThatAreNotItsOwnOnceAtTheStart) {
  write_earlier(1);
  write_file(path_of("notes.txt"), "not a file of the spool");
  write_file(path_of("0000000000000001-1-0-0.otlp.gz.damaged"), "named when it was set aside");
  open();
  EXPECT_THAT(said,
              ElementsAre(EndsWith("spool: 1 file is not of a spool of this version, and left alone: notes.txt")));
  EXPECT_EQ(account->totals().unreadable_bytes, 0U);
}

TEST_F(SpoolTest, CountsTheRequestsOfAnOlderVersion) {
  write_earlier(1);
  write_file(path_of("0000000000000001.nopspan"), "a request");
  write_file(path_of("position"), "1 0");
  for (int run = 0; run < 2; ++run) {
    said.clear();
    open();
    spool->note_reported();
    EXPECT_EQ(account->totals().unreadable_bytes, 9U);
    EXPECT_EQ(row(kTracesRow).found, 1U);
    EXPECT_THAT(said, ElementsAre(HasSubstr("2 files are not of a spool of this version, and left alone: "
                                            "0000000000000001.nopspan, …; 9 B in *.nopspan are requests of an "
                                            "older version: send them with that version, or remove them")));
    end();
  }
}

TEST_F(SpoolTest, SetsAFileOfAbsurdLengthAside) {
  write_earlier(3);
  constexpr std::uint64_t kTebibyte = 1ULL << 40U;
  if (::truncate(path_of(kFirstName).c_str(), kTebibyte) != 0) GTEST_SKIP() << "the file system has no such files";
  EXPECT_THAT(send_all(), ElementsAre("2", "3"));
  EXPECT_THAT(said, ElementsAre(HasSubstr("-1-0-0.otlp.gz: is too long for a file of a spool (1 TiB): renamed")));
  EXPECT_EQ(total().dropped[kDiskError], 1U);
}

TEST_F(SpoolTest, SetsFilesOfAnotherUserAside) {
  write_earlier(3);
  if (!give_to_another_user(path_of(kFirstName))) GTEST_SKIP() << "needs root";
  EXPECT_THAT(send_all(), ElementsAre("2", "3"));
  EXPECT_THAT(said, ElementsAre(HasSubstr("-1-0-0.otlp.gz: belongs to another user: renamed")));
}

// A copy of the folder is what is left if the program is killed.
TEST_F(SpoolTest, HasWhatWaitsFromTheFirstFailedAttemptOn) {
  ExportQueue& sending = start(fail);
  sending.post({Signal::traces, "1", kOneSpan});
  sending.post({Signal::traces, "2", kOneSpan});
  transport.wait_for(2);
  sending.post({Signal::traces, "3", kOneSpan});
  copy_to(folder / "killed");
  transport.set_reply(accept_all);
  EXPECT_TRUE(sending.finish(60s)) << "there is one more attempt";
  EXPECT_EQ(total().accepted, 3U);
  EXPECT_EQ(total().resent, 0U);
  EXPECT_FALSE(account->totals().has_losses());
  EXPECT_EQ(spool->bytes(Signal::traces), 0U);
  options.folder = folder / "killed";
  EXPECT_THAT(send_all(), ElementsAre("1", "2", "3"));
  EXPECT_EQ(total().missing, 0U);
}

// The request that fails first is one of the spool.
TEST_F(SpoolTest, HasWhatWaitsWhenOneOfItsOwnRequestsFails) {
  write_earlier(1);
  transport.hold(true);
  queue_options.back_off = {1h, 1h};
  ExportQueue& sending = start(fail);
  transport.wait_for(1);
  sending.post({Signal::traces, "2", kOneSpan});
  transport.hold(false);
  while (total().spooled < 2) std::this_thread::yield();
  EXPECT_EQ(transport.posted().size(), 1U) << "what waits in memory is on disk before it is sent";
  transport.set_reply(accept_all);
  EXPECT_TRUE(sending.finish(60s));
  EXPECT_EQ(total().accepted, 2U);
}

TEST_F(SpoolTest, HasTheHalvesOfARequestForWhichTheDiskWasFull) {
  ExportQueue& sending = start(fail);
  sending.post({Signal::traces, "1", kOneSpan});
  while (total().spooled == 0) std::this_thread::yield();
  {
    const FullDisk full(10);
    transport.set_reply([](const ExportBody& body) {
      return answer_of(body.items.spans == 2 ? AnswerKind::too_large : AnswerKind::retry);
    });
    sending.post(two_spans());
    const auto was_divided = [&] {
      const std::vector<std::string> ids = ids_of(transport);
      return std::any_of(ids.begin(), ids.end(), [](const std::string& id) { return id.ends_with("a"); });
    };
    while (!was_divided()) std::this_thread::yield();
  }
  while (total().spooled < 3) std::this_thread::yield();
  EXPECT_FALSE(sending.finish(60s));
  EXPECT_EQ(send_all().size(), 3U);
  EXPECT_FALSE(account->totals().has_losses());
}

TEST_F(SpoolTest, NamesWhatAKilledRunHadOnlyInMemory) {
  open().note_unsaved({5, 2, 1, 0});
  spool->note_unsaved({4, 2, 0, 0});
  copy_to(folder / "killed");
  spool->close();
  spool->note_reported();
  end();
  EXPECT_THAT(names_in(options.folder), testing::Not(testing::Contains("unsaved")));
  options.folder = folder / "killed";
  open();
  EXPECT_THAT(said, ElementsAre(HasSubstr("the last run was killed or failed. 6 items that it had")));
  EXPECT_EQ(row(kTracesRow).missing, 4U);
  EXPECT_EQ(row(kSpanEventsRow).missing, 2U);
  EXPECT_TRUE(account->totals().is_balanced());
  EXPECT_TRUE(account->totals().has_losses());
  // The account of a run that is killed itself, or fails, is lost.
  for (const std::uint64_t missing : {6, 8, 0}) {
    end();
    said.clear();
    open();
    EXPECT_EQ(total().missing, missing);
    EXPECT_EQ(said.size(), missing > 0 ? 1U : 0U);
    if (missing == 6) spool->note_unsaved({1, 1, 0, 0});
    if (missing == 8) spool->note_reported();
  }
}

TEST_F(SpoolTest, NamesWhatARunThatFailedHadLost) {
  ExportQueue& sending = start([](const ExportBody&) { return answer_of(AnswerKind::refused); });
  sending.post({Signal::traces, "1", {3, 2, 0, 0}});
  sending.post({Signal::logs, "2", kOneLog});
  sending.note_unsaved({4, 0, 0, 0});
  while (total().refused < 3 + 2 + 1) std::this_thread::yield();
  for (const bool is_reported : {false, true}) {
    open();
    EXPECT_EQ(row(kTracesRow).missing, 3U + 4U);
    EXPECT_EQ(row(kSpanEventsRow).missing, 2U);
    EXPECT_EQ(row(kLogsRow).missing, 1U);
    spool->close();
    if (is_reported) spool->note_reported();
  }
  open();
  EXPECT_FALSE(account->totals().has_losses());
}

TEST_F(SpoolTest, IsNotUsedIfItCannotCountWhatItLoses) {
  ASSERT_EQ(::mkdir(options.folder.c_str(), 0700), 0);
  ASSERT_EQ(::mkdir(path_of("unsaved").c_str(), 0700), 0);
  EXPECT_THAT(failure_to_open(), HasSubstr("/unsaved: Is a directory"));
}

TEST_F(SpoolTest, CountsWhatWasInFilesThatWereRemoved) {
  for (const bool with_folder : {false, true}) {
    said.clear();
    open();
    write_bodies(3);
    std::filesystem::remove_all(with_folder ? options.folder : path_of(kFirstName));
    EXPECT_EQ(write(4), !with_folder);
    spool->close();
    EXPECT_EQ(total().dropped[kDiskError], with_folder ? 4U : 1U);
    EXPECT_EQ(total().spooled, with_folder ? 0U : 3U);
    EXPECT_EQ(spool->bytes(Signal::traces), with_folder ? 0U : 3 * Spool::kBlockBytes);
    EXPECT_THAT(said, Contains(HasSubstr(with_folder ? "files were removed: 3 items" : "files were removed: 1 item ")));
    spool->note_reported();
    std::filesystem::remove_all(options.folder);
  }
}

TEST_F(SpoolTest, SendsWhatCameAfterItsFilesWereRemovedDuringARequest) {
  write_earlier(2);
  transport.hold(true);
  ExportQueue& sending = start();
  transport.wait_for(1);
  EXPECT_TRUE(write(3));
  for (const std::string& name : data_files()) std::filesystem::remove(path_of(name));
  EXPECT_TRUE(write(4));
  EXPECT_TRUE(write(5));
  transport.hold(false);
  EXPECT_TRUE(sending.finish(60s));
  EXPECT_THAT(ids_of(transport), ElementsAre("1", "4", "5"));
  EXPECT_EQ(total().accepted, 3U);
  EXPECT_EQ(total().all_dropped(), 2U);
  EXPECT_TRUE(account->totals().is_balanced());
  EXPECT_EQ(spool->bytes(Signal::traces), 0U);
}

TEST_F(SpoolTest, DoesNotCountAFileThatWasBeingWrittenWhenTheRunWasKilled) {
  write_earlier(1);
  write_file(path_of("new"), "a part of a body");
  write_file(path_of("unsaved"), "nopspan-unsaved 1 1 0 0 0\n");  // the body's span
  EXPECT_THAT(send_all(), ElementsAre("1"));
  EXPECT_EQ(total().missing, 1U);
  EXPECT_EQ(total().all_dropped() + account->totals().unreadable_bytes, 0U);
  EXPECT_THAT(names_in(options.folder), IsEmpty());
}

TEST_F(SpoolTest, HasWhatWaitsWhileARequestHasNoAnswer) {
  transport.hold(true);
  ExportQueue& sending = start();
  sending.post_metrics({kOnePoint});
  transport.wait_for(1);
  sending.post({Signal::traces, "1", kOneSpan});
  sending.post({Signal::logs, "2", kOneLog});
  while (total().spooled < 2) {
    sending.note_unsaved({});
    std::this_thread::sleep_for(10ms);
  }
  sending.post({Signal::traces, "3", kOneSpan});
  EXPECT_EQ(total().spooled, 3U);
  EXPECT_EQ(transport.posted().size(), 1U);
  transport.hold(false);
  EXPECT_TRUE(sending.finish(60s));
  EXPECT_EQ(total().accepted, 4U);
}

TEST_F(SpoolTest, MakesASourceWaitWhileItIsFullAndTheReceiverAccepts) {
  queue_options.capacity_bytes = 1;
  queue_options.refuses = false;
  options.most_bytes = 8 * Spool::kBlockBytes;
  transport.hold(true);
  ExportQueue& sending = start();
  sending.post({Signal::traces, "0", kOneSpan});
  transport.wait_for(1);
  std::uint64_t posted = 1;
  for (; sending.has_space(Signal::traces); ++posted) sending.post({Signal::traces, "body", kOneSpan});
  EXPECT_GT(total().spooled, 0U);
  EXPECT_EQ(total().all_dropped(), 0U);
  transport.hold(false);
  while (!sending.has_space(Signal::traces)) std::this_thread::yield();
  EXPECT_TRUE(sending.finish(60s));
  EXPECT_EQ(total().accepted, posted);
}

TEST_F(SpoolTest, DoesNotWaitForMetricsIfItsBodiesStay) {
  ExportQueue& sending = start(fail);
  sending.post({Signal::traces, "1", kOneSpan});
  sending.post_metrics({kOnePoint});
  EXPECT_FALSE(sending.finish(1h));
  EXPECT_EQ(total().spooled, 1U);
  EXPECT_EQ(row(kMetricsRow).all_dropped(), 1U);
}

TEST_F(SpoolTest, ReportsAKilledRunWhoseNoteIsNotReadable) {
  for (const char* const text : {"", "garbage", "nopspan-unsaved 1 18446744073709551615 1 0 0\n"}) {
    open();
    EXPECT_FALSE(account->totals().has_losses());
    end();
    write_file(path_of("unsaved"), text);
    for (const char* const expected : {"nobody knows how many items", "the last run was killed or failed"}) {
      said.clear();
      open();
      EXPECT_THAT(said, ElementsAre(HasSubstr(expected))) << text;
      EXPECT_TRUE(account->totals().has_losses()) << "also if the first run fails";
      spool->close();
      if (std::string_view(expected).starts_with("the last")) spool->note_reported();
      end();
    }
  }
}

TEST_F(SpoolTest, CountsADamagedBodyOnceIfTheRunIsKilled) {
  write_earlier(2);
  write_file(path_of(kFirstName), "damaged");
  ASSERT_TRUE(open().read(Signal::traces));
  EXPECT_EQ(total().all_dropped(), 1U);
  copy_to(folder / "killed");
  options.folder = folder / "killed";
  EXPECT_THAT(send_all(), ElementsAre("2"));
  EXPECT_EQ(total().missing, 1U);
  EXPECT_EQ(total().all_dropped(), 0U);
}

TEST_F(SpoolTest, OfOneSignalDoesNotKeepAnotherOneWaiting) {
  write_earlier(2);
  ExportQueue& sending = start([](const ExportBody& body) {
    return answer_of(body.signal == Signal::logs ? AnswerKind::retry : AnswerKind::accepted);
  });
  sending.post({Signal::logs, "3", kOneLog});
  while (row(kTracesRow).accepted == 0) std::this_thread::yield();
  sending.post({Signal::traces, "4", kOneSpan});
  EXPECT_FALSE(sending.finish(60s));
  EXPECT_EQ(row(kLogsRow).spooled, 1U);
  EXPECT_TRUE(account->totals().is_balanced());
  EXPECT_EQ(spool->bytes(Signal::traces), 0U);
  EXPECT_GT(spool->bytes(Signal::logs), 0U);
}

TEST_F(SpoolTest, WaitsUntilARefusalIsMended) {
  std::atomic<bool> has_token = false;
  ExportQueue& sending = start([&](const ExportBody&) {
    ReceiverAnswer answer = answer_of(has_token ? AnswerKind::accepted : AnswerKind::refused);
    answer.may_be_mended = true;
    return answer;
  });
  sending.post({Signal::traces, "1", kOneSpan});
  sending.post_metrics({kOnePoint});
  transport.wait_for(4);
  EXPECT_EQ(row(kMetricsRow).refused, 1U) << "newer ones follow";
  has_token = true;
  EXPECT_TRUE(sending.finish(60s));
  EXPECT_EQ(row(kTracesRow).accepted, 1U);
}

TEST_F(SpoolTest, KeepsTheSignalsThatAreNotWanted) {
  open();
  write_bodies(3);
  EXPECT_TRUE(write(4, Signal::logs));
  queue_options.traces = false;
  start().finish(60s);
  EXPECT_EQ(row(kLogsRow).accepted, 1U);
  EXPECT_EQ(row(kTracesRow).spooled, 3U);
  EXPECT_EQ(transport.posted().size(), 1U);
  queue_options.traces = true;
  EXPECT_THAT(send_all(), ElementsAre("1", "2", "3"));
}

TEST_F(SpoolTest, DropsNothingWhileThereAreTooManyOpenFiles) {
  open();
  write_bodies(3);
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none = {0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_FALSE(spool->read(Signal::traces).has_value());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(queue.emplace(queue_options, transport, *account, &*spool).finish(60s));
  EXPECT_EQ(total().accepted, 3U);
}

TEST_F(SpoolTest, RefusesABodyThatItWouldNotRead) {
  const ExportBody body{Signal::traces, std::string((16U << 20U) + 1, 'x'), kOneSpan};
  EXPECT_EQ(open().keep(body, false), DropReason::disk_error);
  EXPECT_TRUE(spool->is_empty(Signal::traces));
  EXPECT_THAT(said, ElementsAre(HasSubstr("File too large")));
}

TEST_F(SpoolTest, IsFullAtItsLimitAndLeavesAQuarterToTheOtherSignal) {
  options.most_bytes = 8 * Spool::kBlockBytes;
  open();
  for (std::uint64_t id = 1; id <= 100; ++id) write(id);
  EXPECT_EQ(row(kTracesRow).spooled, 6U);
  EXPECT_EQ(row(kTracesRow).dropped[static_cast<std::size_t>(DropReason::spool_full)], 94U);
  EXPECT_TRUE(row(kTracesRow).is_balanced());
  EXPECT_THAT(said, ElementsAre(HasSubstr("the spool is full (32 KiB)")));
  for (std::uint64_t id = 1; id <= 100; ++id) write(id, Signal::logs);
  EXPECT_EQ(row(kLogsRow).spooled, 2U);
  EXPECT_EQ(spool->bytes(Signal::traces) + spool->bytes(Signal::logs), options.most_bytes);
}

TEST_F(SpoolTest, SurvivesADiskThatIsFull) {
  constexpr std::uint64_t kAttempts = 20;  // with room for that many bytes
  open();
  write_bodies(2);
  for (std::uint64_t bytes = 0; bytes < kAttempts; ++bytes) {
    const FullDisk full(bytes);
    EXPECT_FALSE(write(3));
  }
  EXPECT_TRUE(write(4));
  spool->close();
  EXPECT_EQ(row(kTracesRow).spooled, 3U);
  EXPECT_EQ(row(kTracesRow).dropped[kDiskError], kAttempts);
  EXPECT_TRUE(row(kTracesRow).is_balanced());
  EXPECT_THAT(said, ElementsAre(HasSubstr("File too large: entries are dropped")));
  EXPECT_THAT(send_all(), ElementsAre("1", "2", "4"));
}

TEST_F(SpoolTest, RemembersWhatMayHaveArrivedWhileRunsSendNothing) {
  write_earlier(3);
  ASSERT_EQ(::chmod(path_of(kFirstName).c_str(), 0400), 0);  // a run was killed while it sent this body
  open().close();
  EXPECT_EQ(send_all().size(), 3U);
  EXPECT_EQ(row(kTracesRow).resent, 1U);
}

TEST_F(SpoolTest, BelongsToOneExporter) {
  open();
  EXPECT_THAT(failure_to_open(), HasSubstr("another nopspan export uses it"));
  end();
  EXPECT_EQ(failure_to_open(), "no failure");
  ASSERT_EQ(::chmod(options.folder.c_str(), 0770), 0);
  EXPECT_THAT(failure_to_open(), HasSubstr("other users can change it"));
  options.folder = folder / "file";
  write_file(options.folder, "");
  EXPECT_THAT(failure_to_open(), HasSubstr("Not a directory"));
  options.folder = folder / "no/such";
  EXPECT_THAT(failure_to_open(), HasSubstr("No such file"));
}

}  // namespace
}  // namespace nopspan::collector
