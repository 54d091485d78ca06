// SPDX-License-Identifier: Apache-2.0
/// @file
/// A step of an inference engine: what it did as a whole, and for each of the requests in its batch, its members.
/// engine.h reports steps, and a handler reads them from the event engine.step.stop.
///
/// @code
/// // What a pass did for the request that the engine knows as 42. engine::StepFields::members() reports it.
/// const nopspan::Context request = nopspan::Context::current();
/// nopspan::engine::Member member = nopspan::engine::Member::of(request, 42);
/// member.context_tokens = 1000;
/// member.decode_tokens = 1;
/// @endcode
///
/// Thread safety: plain values.
#ifndef NOPSPAN_STEP_H
#define NOPSPAN_STEP_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>

#include <cstdint>

namespace nopspan::engine {

/// What a step did for one request. It has the layout of struct nopspan_member (nopspan/probes.h). A number over 65,535
/// does not fit into some of the fields. Then set 65,535, and give the step the sum, for example by decode_tokens() of
/// StepFields.
struct Member {
  std::uint64_t request = 0;          ///< the span id of the request, or a key; see `flags` and of()
  std::uint32_t prefill_tokens = 0;   ///< tokens of the prompt that the step processed
  std::uint32_t context_tokens = 0;   ///< tokens of the request in the KV cache before the step
  std::uint16_t decode_tokens = 0;    ///< tokens that the step generated
  std::uint16_t drafted_tokens = 0;   ///< tokens that a draft proposed, and the step verified
  std::uint16_t accepted_tokens = 0;  ///< how many of them it accepted
  std::uint16_t flags = 0;            ///< kOwnKey, kTraceKey

  /// `request` is not a span id, but a key of the engine's own.
  static constexpr std::uint16_t kOwnKey = 1;
  /// With kOwnKey: the key is the first eight bytes of the request's trace id, as they are in memory. of() and
  /// of_trace() set it.
  static constexpr std::uint16_t kTraceKey = 2;

  /// A member without tokens. `request` is the span engine.request, or a context in it. If the context is of another
  /// process (extract()), the member names the request by its trace id, as of_trace() does. If the span is not
  /// recorded, for example because the request began before a tracer attached, `own_key` identifies the request
  /// instead. It is any number that the process gives to this request alone, and that is the same in all steps. If the
  /// process has several engines, they must not use the same keys.
  [[nodiscard]] static Member of(ContextRef request, std::uint64_t own_key) noexcept {
    Member member;
    member.request = request.recorded_id();
    if (member.request == 0) member.set_key(request.trace_key(true), own_key);
    return member;
  }
  /// The same for a request whose span engine.request is in another process: `request` names it by its trace id. Its
  /// phases in this process have the same trace id. If the context is empty, `own_key` identifies the request.
  [[nodiscard]] static Member of_trace(ContextRef request, std::uint64_t own_key) noexcept {
    Member member;
    member.set_key(request.trace_key(false), own_key);
    return member;
  }

 private:
  void set_key(std::uint64_t trace_key, std::uint64_t own_key) noexcept {
    request = trace_key != 0 ? trace_key : own_key;
    flags = trace_key != 0 ? kOwnKey | kTraceKey : kOwnKey;
  }
};
static_assert(sizeof(Member) == 24);

/// What a step does for its members. The numbers are those of NOPSPAN_STEP_* (nopspan/probes.h).
enum class StepKind : std::uint8_t {
  unknown = 0,
  prefill = 1,  ///< it processes prompts
  decode = 2,   ///< it generates tokens
  mixed = 3,    ///< both
};

/// The facts of a step, for handlers. A count or time of 0 may also mean that it is unknown.
struct Step {
  StepKind kind = StepKind::unknown;       ///< as the application gave it; otherwise as the members are
  std::uint64_t instance = 0;              ///< the application's number of the engine
  std::uint64_t number = 0;                ///< of the step, counted by its engine
  std::uint32_t members = 0;               ///< how many members it has
  std::uint32_t members_with_prefill = 0;  ///< how many of them have prefill_tokens; they come first
  std::uint32_t dropped = 0;               ///< members for which there was no memory, or over the limit
  std::uint32_t batch_size = 0;            ///< as the application gave it; otherwise members + dropped
  std::uint64_t prefill_tokens = 0;        ///< as the application gave them; otherwise the sum of the members
  std::uint64_t decode_tokens = 0;         ///< the same
  std::uint64_t drafted_tokens = 0;        ///< the same
  std::uint64_t accepted_tokens = 0;       ///< the same
  std::uint64_t budget_tokens = 0;         ///< tokens that the scheduler could have given to the step
  std::uint64_t host_ns = 0;               ///< time that the step took on the host
  std::uint64_t device_ns = 0;             ///< time that it took on the device
};

}  // namespace nopspan::engine

#endif  // NOPSPAN_STEP_H
