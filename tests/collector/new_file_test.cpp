// SPDX-License-Identifier: Apache-2.0
// Files that appear as a whole: what they replace, what they leave, and file systems without O_TMPFILE.
#include "base/new_file.h"

#include "temporary_folder.h"

#include <gmock/gmock.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;

void write_to(const NewFile& file, const std::string& text) {
  ASSERT_EQ(file.error(), 0);
  ASSERT_EQ(::write(file.fd(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

void check_everything() {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  {
    NewFile file(path, 0640);
    write_to(file, "first");
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_EQ(file.publish(false), 0);
  }
  EXPECT_EQ(contents_of(path), "first");
  EXPECT_EQ(mode_of(path), 0640U);
  {
    NewFile file(path, 0600);
    write_to(file, "second");
    EXPECT_EQ(file.publish(false), EEXIST);
    EXPECT_EQ(contents_of(path), "first");
  }
  EXPECT_THAT(names_in(folder / ""), ElementsAre("file"));
  {
    NewFile file(path, 0600);
    write_to(file, "third");
    EXPECT_EQ(file.publish(true), 0);
  }
  EXPECT_EQ(contents_of(path), "third");
  EXPECT_EQ(mode_of(path), 0600U);
  { const NewFile dropped(path, 0600); }
  EXPECT_THAT(names_in(folder / ""), ElementsAre("file"));

  std::filesystem::create_symlink(path, folder / "link");
  NewFile kept(folder / "link", 0600), replacing(folder / "link", 0600);
  write_to(replacing, "fourth");
  EXPECT_EQ(kept.publish(false), EEXIST);
  EXPECT_EQ(contents_of(path), "third");
  EXPECT_EQ(replacing.publish(true), 0);
  EXPECT_EQ(contents_of(path), "third");
  EXPECT_EQ(contents_of(folder / "link"), "fourth");
  EXPECT_EQ(kind_of_file(folder / "link"), FileKind::regular);
}

TEST(NewFile, AppearsAsAWholeAndReplacesOnlyIfItMay) { check_everything(); }

TEST(NewFile, CanHaveTheLongestName) {
  const TemporaryFolder folder;
  const std::string path = folder / std::string(255, 'x');
  for (int i = 0; i < 2; ++i) {
    NewFile file(path, 0600);
    EXPECT_EQ(file.publish(true), 0);
  }
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST(NewFile, ReportsAFolderThatIsNotThere) {
  EXPECT_EQ(NewFile("/nowhere/at/all", 0600).error(), ENOENT);
  EXPECT_EQ(NewFile("/dev/null/file", 0600).error(), ENOTDIR);
}

// Makes openat() with O_TMPFILE fail, and renameat2() with flags, as on file systems without them.
void forbid_nameless_files() {
  const auto argument = [](int i) {
    return static_cast<__u32>(offsetof(seccomp_data, args) + 8U * static_cast<unsigned>(i));
  };
  const auto refuse = [](int error) { return SECCOMP_RET_ERRNO | static_cast<__u32>(error); };
  constexpr __u32 kTmpFile = O_TMPFILE & ~O_DIRECTORY;
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_openat, 0, 2),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument(2)),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kTmpFile, 3, 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_renameat2, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument(4)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 2),
      BPF_STMT(BPF_RET | BPF_K, refuse(EOPNOTSUPP)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, refuse(EINVAL)),
  };
  const sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
  ASSERT_EQ(::open("/tmp", O_TMPFILE | O_WRONLY, 0600), -1);
}

TEST(NewFile, IsTheSameOnAFileSystemWithoutNamelessFiles) {
  EXPECT_EXIT(
      {
        forbid_nameless_files();
        check_everything();
        std::_Exit(testing::Test::HasFailure() ? 1 : 0);
      },
      testing::ExitedWithCode(0), "");
}

// Nobody reads the pipe, so to open it would wait for ever.
TEST(OpenExistingOutput, RefusesThePipeOfAnotherUserAtOnce) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a file of another user";
  const TemporaryFolder folder;
  const std::string path = folder / "pipe";
  constexpr uid_t kOther = 65'534;
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  ASSERT_EQ(::chown(path.c_str(), kOther, kOther), 0);
  alarm(60);
  EXPECT_THROW(open_existing_output(path, true), Failure);
  alarm(0);
}

TEST(FileKind, IsThatOfALinkAndNotOfItsTarget) {
  const TemporaryFolder folder;
  write_file(folder / "file", "");
  std::filesystem::create_symlink(folder / "file", folder / "link");
  EXPECT_EQ(kind_of_file(folder / "none"), FileKind::none);
  EXPECT_EQ(kind_of_file(folder / "file"), FileKind::regular);
  EXPECT_EQ(kind_of_file(folder / "link"), FileKind::link);
  EXPECT_EQ(kind_of_file(folder / ""), FileKind::folder);
  EXPECT_EQ(kind_of_file("/dev/null"), FileKind::other);
}

}  // namespace
}  // namespace nopspan::collector
