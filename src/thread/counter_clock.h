// SPDX-License-Identifier: Apache-2.0
// CLOCK_MONOTONIC, read from the processor's counter: half of what an ended span costs would be clock_gettime().
//
// A thread reads the true clock every millisecond, with the counter before and behind it, and learns how fast the
// counter runs by the clock; between two such readings it reads the counter alone. Nothing is taken on trust: that the
// counter may be read at all, and is what the clock is made of, is shown by a clock that takes less than a system call
// does (kQuickNs), and that it is steady by rates that agree. While that is not shown, each reading is the true
// clock's.
//
// What is told never goes back on a thread, and is within 100 ns of the true clock. When the clock's rate changes, it
// is wrong for a few milliseconds by a ns for each ppm more: 500 of them by adjtime(), and as many as 100 000 by the
// clock's ticks (chrony makes 83 000). Where the counter itself jumps, or the clock does by more than the counter (a
// virtual machine that is moved or restored), what is told is wrong by that for the rest of a millisecond.
#pragma once

#include <cstdint>

namespace nopspan::detail {

// The counter of this processor, for the machine that a CounterClock is of.
struct ProcessorCounter {
#if defined(__x86_64__)
  static constexpr bool has_counter = true;
  static std::uint64_t counter() noexcept { return __builtin_ia32_rdtsc(); }
#else
  static constexpr bool has_counter = false;
  static std::uint64_t counter() noexcept { return 0; }
#endif
};

// What a CounterClock needs of a machine, all static and noexcept:
//   std::uint64_t clock();    CLOCK_MONOTONIC, ns
//   std::uint64_t counter();  ticks; called on machines alone whose clock() is quick
//   bool has_counter;
template <class Machine>
class CounterClock {
 public:
  static constexpr std::uint64_t kAnchorNs = 1'000'000;     // how long a reading of the true clock is good for
  static constexpr std::uint64_t kQuickNs = 100;            // a clock that is read from the counter, and no system call
  static constexpr std::uint64_t kTrustNs = 1'000'000'000;  // after that long, all is to be shown anew
  static constexpr unsigned kReadingsBefore = 16;           // a thread of few spans does not try
  static constexpr unsigned kProofs = 4;
  static constexpr unsigned kSlowReadings = 16;

  // ns. Of one thread, and not while it is called already: a signal handler must not.
  std::uint64_t now() noexcept {
    if constexpr (!Machine::has_counter) return Machine::clock();
    if (__builtin_expect(good_for_ != 0, 1)) {
      const std::uint64_t ticks = Machine::counter() - counter_;
      const std::uint64_t told = told_ns_ + ((ticks * rate_) >> kRateBits);
      if (__builtin_expect(ticks < good_for_ && told >= last_ns_, 1)) return last_ns_ = told;
    }
    return last_ns_ = read();
  }

 private:
  static constexpr unsigned kRateBits = 32;
  // Rates agree that differ by less than 1 : 2^11: about as much as adjtime() slews the clock.
  static constexpr unsigned kSteadyBits = 11;

  enum class Stage : unsigned char { untried, learning, trusted };

  struct Reading {
    std::uint64_t ns;
    std::uint64_t counter;  // in the middle of what the clock took
    std::uint64_t took;     // ticks
  };

  static Reading read_both() noexcept {
    const std::uint64_t before = Machine::counter();
    const std::uint64_t ns = Machine::clock();
    const std::uint64_t took = Machine::counter() - before;
    return {ns, before + took / 2, took};
  }

  __attribute__((noinline)) std::uint64_t read() noexcept {
    switch (stage_) {
      case Stage::untried:
        return try_clock();
      case Stage::learning:
        return learn();
      case Stage::trusted:
        break;
    }
    return follow();
  }

  // What may be told where the true clock says `ns`: it waits for what was told, unless it is another clock.
  [[nodiscard]] std::uint64_t not_before_told(std::uint64_t ns) const noexcept {
    return ns < last_ns_ && last_ns_ - ns < kAnchorNs ? last_ns_ : ns;
  }

  // All is to be shown anew, from `ns` on.
  std::uint64_t distrust(std::uint64_t ns) noexcept {
    good_for_ = 0;
    stage_ = Stage::untried;
    readings_ = 0;
    try_after_ns_ = ns;
    return not_before_told(ns);
  }

  std::uint64_t try_clock() noexcept {
    std::uint64_t now = Machine::clock();
    if (now < try_after_ns_ || ++readings_ < kReadingsBefore) return not_before_told(now);
    readings_ = 0;
    try_after_ns_ = now + kTrustNs;
    bool quick = false;
    for (int i = 0; i < 3; ++i) {
      const std::uint64_t next = Machine::clock();
      quick = quick || next - now - 1 < kQuickNs;  // a clock that stood still is a coarse one
      now = next;
    }
    if (quick) {
      stage_ = Stage::learning;
      proofs_ = 0;
      true_ns_ = 0;
    }
    return not_before_told(now);
  }

  // Whether nothing came between the reading's parts, and the clock is read from the counter still.
  static bool is_quick(const Reading& reading, std::uint64_t rate) noexcept {
    return (reading.took * rate) >> kRateBits < kQuickNs;
  }

  // Whether the rate since the last reading is to be had; in `rate`.
  bool rate_since(const Reading& reading, std::uint64_t& rate) const noexcept {
    const std::uint64_t ns = reading.ns - true_ns_;
    const std::uint64_t ticks = reading.counter - counter_;
    if (ns > kTrustNs || ticks == 0 || ticks > kTrustNs * 16) return false;
    rate = (ns << kRateBits) / ticks;
    return rate != 0 && rate < std::uint64_t{1} << (kRateBits + 4U);
  }

  static bool agree(std::uint64_t one, std::uint64_t other) noexcept {
    return (one > other ? one - other : other - one) <= other >> kSteadyBits;
  }

  void anchor(const Reading& reading, std::uint64_t told_ns) noexcept {
    counter_ = reading.counter;
    true_ns_ = reading.ns;
    told_ns_ = told_ns;
    good_for_ = (kAnchorNs << kRateBits) / true_rate_;
    rate_ = true_rate_ - ((told_ns - reading.ns) << kRateBits) / good_for_;  // where it is ahead it waits for the clock
  }

  std::uint64_t learn() noexcept {
    const std::uint64_t now = Machine::clock();
    if (now - true_ns_ < kAnchorNs) return not_before_told(now);
    const Reading reading = read_both();
    const std::uint64_t told = not_before_told(reading.ns);
    std::uint64_t rate = 0;
    const bool is_proof = true_ns_ != 0 && rate_since(reading, rate) && is_quick(reading, rate);
    proofs_ = is_proof && agree(rate, true_rate_) ? proofs_ + 1 : 0;
    true_rate_ = rate;
    counter_ = reading.counter;
    true_ns_ = reading.ns;
    if (proofs_ == kProofs && told == reading.ns) {
      stage_ = Stage::trusted;
      slow_ = 0;
      anchor(reading, told);
    }
    return told;
  }

  // What was told last is no longer good.
  std::uint64_t follow() noexcept {
    const Reading reading = read_both();
    std::uint64_t rate = 0;
    if (!rate_since(reading, rate)) return distrust(reading.ns);
    const std::uint64_t told = not_before_told(reading.ns);
    if (!is_quick(reading, true_rate_)) return ++slow_ < kSlowReadings ? told : distrust(reading.ns);
    slow_ = 0;
    if (!agree(rate, true_rate_)) return distrust(reading.ns);
    true_rate_ = rate > true_rate_ ? true_rate_ + (rate - true_rate_) / 4 : true_rate_ - (true_rate_ - rate) / 4;
    anchor(reading, told);
    return told;
  }

  std::uint64_t counter_ = 0;   // where the last reading of the true clock was,
  std::uint64_t good_for_ = 0;  // for how many ticks behind it it is good (0: each reading is the true clock's),
  std::uint64_t told_ns_ = 0;   // what was told there,
  std::uint64_t rate_ = 0;      // and how fast what is told runs: ns for 2^kRateBits ticks
  std::uint64_t last_ns_ = 0;   // what was told last
  std::uint64_t true_ns_ = 0;   // the true clock and its rate, there
  std::uint64_t true_rate_ = 0;
  std::uint64_t try_after_ns_ = 0;
  unsigned readings_ = 0;
  unsigned proofs_ = 0;
  unsigned slow_ = 0;
  Stage stage_ = Stage::untried;
};

}  // namespace nopspan::detail
