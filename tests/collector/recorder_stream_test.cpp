// SPDX-License-Identifier: Apache-2.0
// The ledgers of a recorder's connections add up.
#include "recording/recorder_stream.h"

#include "base/failure.h"
#include "base/unix_socket.h"
#include "invented_spans.h"
#include "temporary_folder.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

Counts counts(std::uint64_t delivered, std::uint64_t dropped) {
  return {.emitted = delivered + dropped, .delivered = delivered, .export_dropped = dropped};
}

Ledger ledger(std::vector<ProcessLedger> processes, const Counts& others = {}) {
  Ledger ledger;
  ledger.processes = std::move(processes);
  ledger.others = others;
  ledger.total = others;
  for (const ProcessLedger& one : ledger.processes) ledger.total += one.counts;
  return ledger;
}

TEST(RecorderStream, ReportsInEachConnectionWhatIsNew) {
  RecorderStream stream("unix:/nowhere");
  const ProcessPointer a = invented_process(1, 10), b = invented_process(2, 20), unknown = invented_process(3, 0);
  stream.begin();
  const Ledger first = ledger({{a, counts(5, 1)}, {unknown, counts(2, 0)}});
  EXPECT_EQ(stream.less_reported(first).total, first.total);
  stream.note_ledger(first);
  // Written after that ledger, and no ledger followed.
  stream.note_written({{a, 3}});
  stream.begin();
  const Ledger second = ledger({{a, counts(8, 4)}, {b, counts(1, 0)}, {unknown, counts(4, 0)}});
  const Ledger rest = stream.less_reported(second);
  EXPECT_EQ(rest.total, counts(3, 3));
  EXPECT_TRUE(rest.total.is_balanced());
  for (const ProcessLedger& one : rest.processes) {
    EXPECT_EQ(one.counts, one.process->pid == 1 ? counts(0, 3) : counts(1, 0)) << one.process->pid;
  }
}

TEST(RecorderStream, KeepsTheSumIfTheSourceForgetsAProcess) {
  RecorderStream stream("unix:/nowhere");
  const ProcessPointer a = invented_process(1, 10);
  stream.note_ledger(ledger({{a, counts(5, 1)}}));
  stream.begin();
  const Ledger rest = stream.less_reported(ledger({}, counts(7, 2)));
  EXPECT_EQ(rest.total, counts(2, 1));
  EXPECT_TRUE(rest.processes.empty());
}

TEST(RecorderStream, RefusesPathsThatNoSocketCanHave) {
  EXPECT_THROW(RecorderStream("unix:"), Failure);
  EXPECT_THROW(RecorderStream("unix:" + std::string(108, 'x')), Failure);
  RecorderStream stream("unix:/nowhere/at/all");
  EXPECT_FALSE(stream.connect());
  EXPECT_EQ(stream.error(), ENOENT);
}

// A socket in a folder with this mode, on which another user listens. Empty without root.
OpenFile listen_as_another_user(const std::string& path, std::filesystem::perms mode) {
  constexpr uid_t kNobody = 65534;
  std::filesystem::permissions(std::filesystem::path(path).parent_path(), mode);
  OpenFile file(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = *unix_address(path);
  if (::seteuid(kNobody) != 0) return {};
  const bool listens = ::bind(file.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
                       ::listen(file.get(), 1) == 0;
  EXPECT_TRUE(listens);
  EXPECT_EQ(::seteuid(0), 0);
  return file;
}

constexpr auto kOfAll = std::filesystem::perms::all;
constexpr auto kShared = kOfAll | std::filesystem::perms::sticky_bit;

TEST(RecorderStream, DoesNotWriteToAnotherUserInASharedFolder) {
  const TemporaryFolder folder;
  const std::string path = folder / "socket";
  const OpenFile listener = listen_as_another_user(path, kShared);
  if (!listener) GTEST_SKIP() << "needs root";
  RecorderStream stream("unix:" + path);
  EXPECT_FALSE(stream.connect());
  EXPECT_EQ(stream.error(), kAnotherUserListens);
}

TEST(RecorderStream, WritesToAnotherUserInAFolderThatIsNotShared) {
  const TemporaryFolder folder;
  const std::string path = folder / "socket";
  const OpenFile listener = listen_as_another_user(path, kOfAll);
  if (!listener) GTEST_SKIP() << "needs root";
  EXPECT_TRUE(RecorderStream("unix:" + path).connect());
}

}  // namespace
}  // namespace nopspan::collector
