// SPDX-License-Identifier: Apache-2.0
// Which kernels preempt BPF programs, and that no BPF program of the collector has a stack that preemption could
// damage.
#include "doctor/checks.h"
#include "live/kernel_programs.h"

#include <bpf/libbpf.h>
#include <collector.skel.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <algorithm>

namespace nopspan::collector {
namespace {

Preemption of_6_18(const std::string& model, const std::string& command_line, const std::string& config) {
  return preemption_of({6, "#1 SMP PREEMPT_DYNAMIC Mon", model, command_line, config});
}

TEST(Preemption, IsInTheVersionOfAKernelThatCannotChangeIt) {
  EXPECT_EQ(preemption_of({6, "#1 SMP Debian 6.1.0-1", "", "", ""}), Preemption::no);
  EXPECT_EQ(preemption_of({6, "#1 SMP PREEMPT Mon", "", "", ""}), Preemption::yes);
  EXPECT_EQ(preemption_of({6, "#1 SMP PREEMPT_RT Mon", "", "", ""}), Preemption::yes);
  EXPECT_EQ(preemption_of({7, "#1 SMP PREEMPT_LAZY Mon", "", "", ""}), Preemption::yes);
}

TEST(Preemption, IsWhatTheKernelUsesNow) {
  EXPECT_EQ(of_6_18("none (voluntary) full lazy \n", "preempt=full", "CONFIG_PREEMPT=y\n"), Preemption::no);
  EXPECT_EQ(of_6_18("(none) voluntary full lazy \n", "", ""), Preemption::no);
  EXPECT_EQ(of_6_18("none voluntary (full) lazy \n", "preempt=none", "CONFIG_PREEMPT_NONE=y\n"), Preemption::yes);
  EXPECT_EQ(of_6_18("none voluntary full (lazy) \n", "", ""), Preemption::yes);
}

TEST(Preemption, IsOtherwiseWhatItsCommandLineOrElseItsConfigurationSays) {
  EXPECT_EQ(of_6_18("", "quiet preempt=full preempt=voluntary ro", "CONFIG_PREEMPT=y\n"), Preemption::no);
  EXPECT_EQ(of_6_18("", "quiet preempt=lazy preempt=wrong", "CONFIG_PREEMPT_NONE=y\n"), Preemption::yes);
  EXPECT_EQ(of_6_18("", "quiet", "CONFIG_X=y\nCONFIG_PREEMPT_LAZY=y\n"), Preemption::yes);
  EXPECT_EQ(of_6_18("", "quiet", "# CONFIG_PREEMPT is not set\nCONFIG_PREEMPT_VOLUNTARY=y\n"), Preemption::no);
  EXPECT_EQ(of_6_18("", "quiet", ""), Preemption::unknown);
}

TEST(Preemption, CannotBeSwitchedOffFromLinux7On) {
  EXPECT_EQ(preemption_of({7, "#1 SMP PREEMPT_DYNAMIC Mon", "", "preempt=none", ""}), Preemption::yes);
}

// A program with a tail call has no private stack. See no_private_stack() in probes/collector.bpf.c.
TEST(Preemption, FindsNoPrivateStackInAProgramOfTheCollector) {
  ::collector* skeleton = collector__open();
  ASSERT_NE(skeleton, nullptr);
  int programs = 0;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeleton->obj) {
    const bpf_insn* begin = bpf_program__insns(program);
    EXPECT_TRUE(std::any_of(begin, begin + bpf_program__insn_cnt(program), [](const bpf_insn& one) {
      return one.code == (BPF_JMP | BPF_CALL) && one.src_reg == 0 && one.imm == BPF_FUNC_tail_call;
    })) << bpf_program__name(program);
    ++programs;
  }
  EXPECT_GT(programs, 0);
  collector__destroy(skeleton);
}

}  // namespace
}  // namespace nopspan::collector
