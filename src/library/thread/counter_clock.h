// SPDX-License-Identifier: Apache-2.0
// CLOCK_MONOTONIC, computed from the processor's counter, because two calls of clock_gettime() would be half the cost
// of a span.
//
// How it works: a thread reads the true clock (clock_gettime) once per millisecond, and the counter before and after
// it. Two such readings give the counter's rate. In between, the thread reads only the counter.
//
// Why it is safe: it relies on nothing that it has not measured. A true clock that answers in less than kQuickNs is
// faster than any system call. So the vDSO computes it from the counter, and this program may read the counter too. The
// counter is steady if kProofs successive rates agree. If either condition fails, every reading is a reading of the
// true clock, until both hold again.
//
// Limits: on one thread the time never goes backwards, and it is within 100 ns of the true clock. If the rate of the
// true clock changes, the time is wrong for a few milliseconds, by 1 ns per ppm of the change: adjtime() changes it by
// up to 500 ppm, and setting the clock's tick by up to 100,000 ppm (chrony: 83,000 ppm). If the counter jumps, or the
// clock jumps without it (a virtual machine that is moved or restored), the time is wrong by the size of the jump for
// up to one millisecond.
#pragma once

#include <cstdint>

namespace nopspan::detail {

// The processor's counter: the base of a Machine.
struct ProcessorCounter {
#if defined(__x86_64__)
  static constexpr bool has_counter = true;
  static std::uint64_t counter() noexcept { return __builtin_ia32_rdtsc(); }
#else
  static constexpr bool has_counter = false;
  static std::uint64_t counter() noexcept { return 0; }
#endif
};

// A Machine has these static members, which do not throw:
//   std::uint64_t clock();    the true clock: CLOCK_MONOTONIC in ns
//   std::uint64_t counter();  the counter in ticks; called only after clock() was found to be quick
//   bool has_counter;         if false, counter() is never called
template <class Machine>
class CounterClock {
 public:
  static constexpr std::uint64_t kAnchorNs = 1'000'000;     // how long a reading of the true clock is used
  static constexpr std::uint64_t kQuickNs = 100;            // a clock that is faster than this makes no system call
  static constexpr std::uint64_t kTrustNs = 1'000'000'000;  // after so long without a reading, it starts over
  static constexpr unsigned kReadingsBefore = 16;           // readings before the first try: a short thread never tries
  static constexpr unsigned kProofs = 4;                    // rates that must agree, one per kAnchorNs
  static constexpr unsigned kSlowReadings = 16;             // slow readings in a row that end the trust

  // The time in ns. Not thread-safe and not reentrant: a signal handler must not call it while it runs.
  std::uint64_t now() noexcept {
    if constexpr (!Machine::has_counter) return last_ns_ = Machine::clock();
    if (__builtin_expect(good_for_ != 0, 1)) {
      const std::uint64_t ticks = Machine::counter() - counter_;
      const std::uint64_t reported = reported_ns_ + ((ticks * rate_) >> kRateBits);
      if (__builtin_expect(ticks < good_for_ && reported >= last_ns_, 1)) return last_ns_ = reported;
    }
    return last_ns_ = read();
  }
  // What now() has returned last; 0 before its first call.
  [[nodiscard]] std::uint64_t last() const noexcept { return last_ns_; }

 private:
  static constexpr unsigned kRateBits = 32;
  // Two rates agree if they differ by at most 1/2^11 (488 ppm), about as much as adjtime() slews the clock.
  static constexpr unsigned kSteadyBits = 11;

  enum class Stage : unsigned char { untried, learning, trusted };

  struct Reading {
    std::uint64_t ns;
    std::uint64_t counter;  // halfway through the call of clock()
    std::uint64_t took;     // the duration of that call in ticks
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

  // The time to report if the true clock reads `ns`. If the last reported time is ahead by less than kAnchorNs, that
  // time is repeated until the true clock reaches it. If it is ahead by more, the clock itself was changed, and its
  // reading is reported unchanged.
  [[nodiscard]] std::uint64_t not_before_last(std::uint64_t ns) const noexcept {
    return ns < last_ns_ && last_ns_ - ns < kAnchorNs ? last_ns_ : ns;
  }

  // Starts over: from time `ns` on, every condition must be measured again.
  std::uint64_t distrust(std::uint64_t ns) noexcept {
    good_for_ = 0;
    stage_ = Stage::untried;
    readings_ = 0;
    try_after_ns_ = ns;
    return not_before_last(ns);
  }

  std::uint64_t try_clock() noexcept {
    std::uint64_t now = Machine::clock();
    if (now < try_after_ns_ || ++readings_ < kReadingsBefore) return not_before_last(now);
    readings_ = 0;
    try_after_ns_ = now + kTrustNs;
    bool quick = false;
    for (int i = 0; i < 3; ++i) {
      const std::uint64_t next = Machine::clock();
      quick = quick || next - now - 1 < kQuickNs;  // false if next == now: such a clock is too coarse to be measured
      now = next;
    }
    if (quick) {
      stage_ = Stage::learning;
      proofs_ = 0;
      true_ns_ = 0;
    }
    return not_before_last(now);
  }

  // True if the call of clock() made no system call and was not interrupted.
  static bool is_quick(const Reading& reading, std::uint64_t rate) noexcept {
    return (reading.took * rate) >> kRateBits < kQuickNs;
  }

  // Sets `rate` to the counter's rate since the last reading. False if no valid rate can be computed.
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

  void anchor(const Reading& reading, std::uint64_t reported_ns) noexcept {
    counter_ = reading.counter;
    true_ns_ = reading.ns;
    reported_ns_ = reported_ns;
    good_for_ = (kAnchorNs << kRateBits) / true_rate_;
    // While the reported time is ahead of the true clock, it advances more slowly.
    rate_ = true_rate_ - ((reported_ns - reading.ns) << kRateBits) / good_for_;
  }

  std::uint64_t learn() noexcept {
    const std::uint64_t now = Machine::clock();
    if (now - true_ns_ < kAnchorNs) return not_before_last(now);
    const Reading reading = read_both();
    const std::uint64_t reported = not_before_last(reading.ns);
    std::uint64_t rate = 0;
    const bool is_proof = true_ns_ != 0 && rate_since(reading, rate) && is_quick(reading, rate);
    proofs_ = is_proof && agree(rate, true_rate_) ? proofs_ + 1 : 0;
    true_rate_ = rate;
    counter_ = reading.counter;
    true_ns_ = reading.ns;
    if (proofs_ == kProofs && reported == reading.ns) {
      stage_ = Stage::trusted;
      slow_ = 0;
      anchor(reading, reported);
    }
    return reported;
  }

  // Called once per kAnchorNs while the counter is trusted: reads both again and corrects the rate.
  std::uint64_t follow() noexcept {
    const Reading reading = read_both();
    std::uint64_t rate = 0;
    if (!rate_since(reading, rate)) return distrust(reading.ns);
    const std::uint64_t reported = not_before_last(reading.ns);
    if (!is_quick(reading, true_rate_)) return ++slow_ < kSlowReadings ? reported : distrust(reading.ns);
    slow_ = 0;
    if (!agree(rate, true_rate_)) return distrust(reading.ns);
    true_rate_ = rate > true_rate_ ? true_rate_ + (rate - true_rate_) / 4 : true_rate_ - (true_rate_ - rate) / 4;
    anchor(reading, reported);
    return reported;
  }

  std::uint64_t counter_ = 0;      // the counter at the last reading of the true clock
  std::uint64_t good_for_ = 0;     // ticks for which that reading is used; 0: always read the true clock
  std::uint64_t reported_ns_ = 0;  // the time that was reported at that reading
  std::uint64_t rate_ = 0;         // ns per 2^kRateBits ticks, as the reported time advances
  std::uint64_t last_ns_ = 0;      // the last reported time
  std::uint64_t true_ns_ = 0;      // the true clock at the last reading
  std::uint64_t true_rate_ = 0;    // ns per 2^kRateBits ticks, as the true clock advances
  std::uint64_t try_after_ns_ = 0;
  unsigned readings_ = 0;
  unsigned proofs_ = 0;
  unsigned slow_ = 0;
  Stage stage_ = Stage::untried;
};

}  // namespace nopspan::detail
