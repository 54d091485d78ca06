// SPDX-License-Identifier: Apache-2.0
/// @file
/// Scopes in fibers: the stackful coroutines of ucontext, Boost.Context, brpc and others. A thread's open Spans and
/// ContextScopes belong to the fiber that runs on it. If a scheduler switches to another fiber without this header, the
/// spans of that fiber become children of the first one's.
///
/// @code
/// #include <nopspan/fiber.h>
///
/// #include <ucontext.h>
///
/// // Switches from the fiber that calls this to another one. It may be resumed on another thread.
/// void switch_fiber(ucontext_t* from, ucontext_t* to) {
///   const nopspan::FiberSwitch here;
///   swapcontext(from, to);
/// }
/// @endcode
///
/// Boost.Fiber, Boost.Coroutine2 and userver switch by Boost.Context. There, replace its switch when you link the
/// program, with `-Wl,--wrap=jump_fcontext`:
///
/// @code
/// #include <nopspan/fiber.h>
///
/// #include <boost/context/detail/fcontext.hpp>
///
/// using namespace boost::context::detail;
/// extern "C" transfer_t __real_jump_fcontext(fcontext_t to, void* data);
/// extern "C" transfer_t __wrap_jump_fcontext(fcontext_t to, void* data) {
///   const nopspan::FiberSwitch here;
///   return __real_jump_fcontext(to, data);
/// }
/// @endcode
///
/// brpc has a function of its own: link with `-Wl,--wrap=bthread_jump_fcontext`, and wrap
/// `std::intptr_t bthread_jump_fcontext(void** from, void* to, std::intptr_t data, bool keeps_fpu)` in the same way.
/// Seastar switches inside one source file, so the linker cannot replace it. Add a FiberSwitch at the begin of
/// thread_context::setup(), switch_in() and switch_out() in src/core/thread.cc. The adapters of brpc, userver and
/// Seastar follow their sources, and were not run with them.
///
/// A scheduler with hooks keeps the scopes of a suspended fiber beside its stack instead, and calls suspend_scopes()
/// when the fiber is suspended, and resume_scopes() when it is resumed. Both take a few nanoseconds
/// (docs/overhead.md). They work whether or not a tracer or handler is attached.
///
/// A span needs up to 12 KiB of a fiber's stack, and inject() and extract() need up to 16 KiB.
///
/// Thread safety: a SuspendedScopes belongs to one thread at a time. The thread that resumes the scopes may be another
/// one than the thread that suspended them, which may have ended. Do not switch fibers in a handler, in a callable that
/// sets fields, or in a signal handler that interrupted the library.
#ifndef NOPSPAN_FIBER_H
#define NOPSPAN_FIBER_H

#include <nopspan/detail/config.h>

#include <cstdint>
#include <utility>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

namespace detail {
struct Frame;
struct SuspendedFrames {
  Frame* top = nullptr;    // null: no scope is open
  std::uint64_t mark = 0;  // of the process
};
NOPSPAN_API SuspendedFrames suspend_frames() noexcept NOPSPAN_IN_SHELL(return {});
NOPSPAN_API void resume_frames(SuspendedFrames suspended) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API void end_frames(SuspendedFrames suspended) noexcept NOPSPAN_IN_SHELL();
}  // namespace detail

/// The open scopes of a fiber that is suspended: its Spans and ContextScopes, and the contexts of its coroutines.
class [[nodiscard]] SuspendedScopes {
 public:
  /// No scopes.
  SuspendedScopes() noexcept = default;
  /// Takes the scopes. `other` has none afterwards.
  SuspendedScopes(SuspendedScopes&& other) noexcept : frames_(std::exchange(other.frames_, {})) {}
  /// Ends the own scopes, and takes those of `other`.
  SuspendedScopes& operator=(SuspendedScopes&& other) noexcept {
    if (this == &other) return *this;
    end();
    frames_ = std::exchange(other.frames_, {});
    return *this;
  }
  SuspendedScopes(const SuspendedScopes&) = delete;             ///< scopes are not copied
  SuspendedScopes& operator=(const SuspendedScopes&) = delete;  ///< scopes are not copied
  /// Ends scopes that were not resumed. The spans end as cancelled and are counted (stats().abandoned), and so are the
  /// contexts (stats().scopes_left). Their memory is used again. So do this only if the fiber's stack is given back
  /// without unwinding it. If its Spans are going to be destroyed, call resume_scopes() before.
  ~SuspendedScopes() { end(); }

  /// Whether no scope was open.
  [[nodiscard]] bool empty() const noexcept { return frames_.top == nullptr; }

 private:
  friend SuspendedScopes suspend_scopes() noexcept;
  friend void resume_scopes(SuspendedScopes&& scopes) noexcept;
  explicit SuspendedScopes(detail::SuspendedFrames frames) noexcept : frames_(frames) {}
  void end() noexcept {
    if (frames_.top != nullptr) detail::end_frames(frames_);
  }

  detail::SuspendedFrames frames_;
};

/// Takes all open scopes away from the calling thread. Afterwards it has none, so the next span starts a new request.
inline SuspendedScopes suspend_scopes() noexcept { return SuspendedScopes(detail::suspend_frames()); }

/// Makes the scopes those of the calling thread, inside the scopes that it has. In a child after fork(), scopes that
/// were suspended before it are dropped instead, and counted (stats().inherited).
inline void resume_scopes(SuspendedScopes&& scopes) noexcept {
  if (scopes.frames_.top != nullptr) detail::resume_frames(std::exchange(scopes.frames_, {}));
}

/// A local variable of the function that switches fibers: takes the fiber's scopes away until the fiber runs again, on
/// this thread or on another one.
class FiberSwitch {
 public:
  FiberSwitch() noexcept : scopes_(suspend_scopes()) {}  ///< suspends the scopes
  ~FiberSwitch() { resume_scopes(std::move(scopes_)); }  ///< resumes the scopes
  FiberSwitch(const FiberSwitch&) = delete;              ///< not copied
  FiberSwitch& operator=(const FiberSwitch&) = delete;   ///< not copied

 private:
  SuspendedScopes scopes_;
};

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_FIBER_H
