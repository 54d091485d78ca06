// SPDX-License-Identifier: Apache-2.0
#include "thread/stacktrace.h"

#include "base/counters.h"
#include "base/exceptions.h"
#include "thread/thread_state.h"

#include <nopspan/detail/config.h>
#include <nopspan/stats.h>

#include <cxxabi.h>
#include <dlfcn.h>
#include <unwind.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>

namespace nopspan {
namespace detail {

std::atomic<bool> capturing_stacktraces{false};

namespace {

struct Walk {
  std::uintptr_t* frames;
  unsigned size;
};

_Unwind_Reason_Code add_frame(_Unwind_Context* context, void* argument) {
  auto* const walk = static_cast<Walk*>(argument);
  int is_exact = 0;  // false for a return address, which may be that of the next function
  const std::uintptr_t address = _Unwind_GetIPInfo(context, &is_exact);
  if (address == 0 || walk->size == Thrown::kMostFrames) return _URC_END_OF_STACK;
  walk->frames[walk->size++] = is_exact != 0 ? address : address - 1;
  return _URC_NO_REASON;
}

// Walks the stack as the C++ runtime does to throw. Allocates nothing.
unsigned walk_stack(std::uintptr_t (&frames)[Thrown::kMostFrames]) noexcept {
  Walk walk{frames, 0};
  _Unwind_Backtrace(add_frame, &walk);
  return walk.size;
}

void note_thrown(const std::type_info& type) noexcept {
  ThreadState* const thread = locals.state;
  if (thread == nullptr || thread->busy) return;
  // The runtime does not count these among the exceptions in flight.
  if (type == typeid(abi::__forced_unwind) || type == typeid(abi::__foreign_exception)) return;
  const InsideLibrary inside(thread);
  Thrown& thrown = thread->thrown;
  const unsigned in_flight = *thread->exceptions_in_flight;
  if (thrown.state != Thrown::State::rethrown || thrown.in_flight != in_flight) {
    thrown.size = walk_stack(thrown.frames);
    thrown.in_flight = in_flight;
  }
  thrown.state = Thrown::State::noted;
}

// "function(int)+0x12" if the object exports the function and its name is not too long to be demangled. Otherwise
// "object+0x1234".
std::string frame_text(std::uintptr_t address) {
  Dl_info found{};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): it came as a number
  if (dladdr(reinterpret_cast<const void*>(address), &found) == 0) found = {};
  const bool has_function = found.dli_sname != nullptr && std::strlen(found.dli_sname) <= kMostDemangled;
  std::string text;
  if (has_function) {
    text = demangle(found.dli_sname);
  } else if (found.dli_fname != nullptr) {
    const char* const slash = std::strrchr(found.dli_fname, '/');
    text = slash != nullptr ? slash + 1 : found.dli_fname;
  }
  const auto base = reinterpret_cast<std::uintptr_t>(has_function ? found.dli_saddr : found.dli_fbase);
  char offset[24];
  std::snprintf(offset, sizeof(offset), "+0x%zx", static_cast<std::size_t>(address - base));
  return text + offset;
}

// The number of frames, of those that note_thrown() walked, up to the function of the runtime that throws.
unsigned runtime_frames(const Thrown& thrown) noexcept {
  constexpr unsigned kMostOfRuntime = 12;
  unsigned count = 0;
  for (unsigned i = 0; i < thrown.size && i < kMostOfRuntime; ++i) {
    Dl_info found{};
    // NOLINTNEXTLINE(performance-no-int-to-ptr): it came as a number
    if (dladdr(reinterpret_cast<const void*>(thrown.frames[i]), &found) == 0 || found.dli_sname == nullptr) continue;
    const std::string_view name = found.dli_sname;
    for (const std::string_view throws :
         {"__cxa_throw", "__cxa_rethrow", "_ZSt17rethrow_exceptionNSt15__exception_ptr13exception_ptrE"}) {
      // Sanitizers have functions around them, whose names have a prefix.
      if (name.size() >= throws.size() && name.substr(name.size() - throws.size()) == throws) count = i + 1;
    }
  }
  return count;
}

Value texts_of(const std::uintptr_t* frames, const std::uintptr_t* end) {
  Value::List texts;
  for (; frames < end; ++frames) texts.emplace_back(frame_text(*frames));
  return texts.empty() ? Value() : Value(std::move(texts));
}

// The frames of `thrown` if it was noted with that many exceptions in flight. Otherwise the frames from `caller` on.
// Null (counted) if memory runs out.
Value stacktrace(const void* caller, unsigned in_flight) noexcept {
  if (!capturing_stacktraces.load(std::memory_order_relaxed)) return {};
  try {
    if (has_thrown() && locals.state->thrown.in_flight == in_flight) {
      const Thrown& thrown = locals.state->thrown;
      return texts_of(thrown.frames + runtime_frames(thrown), thrown.frames + thrown.size);
    }
    std::uintptr_t frames[Thrown::kMostFrames];
    const std::uintptr_t* const all = frames;
    const std::uintptr_t* const end = all + walk_stack(frames);
    const std::uintptr_t* const first = std::find(all, end, reinterpret_cast<std::uintptr_t>(caller) - 1);
    return texts_of(first != end ? first : all, end);
  } catch (const std::bad_alloc&) {
    count(counters.fields_dropped);
    return {};
  }
}

}  // namespace

// The exception that is being handled is no longer in flight.
Value stacktrace_of_caught(const void* caller) noexcept { return stacktrace(caller, *exceptions_in_flight() + 1); }
Value stacktrace_of_unwinding(const void* caller) noexcept { return stacktrace(caller, *exceptions_in_flight()); }

namespace {
bool is_in(Thrown::State state) noexcept { return locals.state != nullptr && locals.state->thrown.state == state; }
void enter(Thrown::State state) noexcept { locals.state->thrown.state = state; }
}  // namespace

bool has_thrown() noexcept { return is_in(Thrown::State::noted); }

void forget_thrown() noexcept {
  if (locals.state != nullptr) enter(Thrown::State::none);
}

Rethrowing::Rethrowing() noexcept {
  if (is_in(Thrown::State::noted)) enter(Thrown::State::rethrown);
}
Rethrowing::~Rethrowing() {
  if (is_in(Thrown::State::rethrown)) enter(Thrown::State::none);
}

// The type of the clause, as the runtime sees it: an object with the layout of a std::type_info and of its table of
// virtual functions. It is not derived from std::type_info, because it must be initialized at compile time and never be
// destroyed: other libraries may throw before this one is loaded, and after its destructors.
class TypeOfClause {
 public:
  explicit constexpr TypeOfClause(const char* name) noexcept : name_(name) {}
  virtual void destroy() const noexcept {}
  virtual void destroy_and_delete() const noexcept {}
  [[nodiscard]] virtual bool is_pointer() const noexcept { return false; }
  [[nodiscard]] virtual bool is_function() const noexcept { return false; }
  // The runtime asks whether a clause of this type catches an exception of the type `thrown`.
  virtual bool catches(const std::type_info* thrown, void** /*object*/, unsigned /*depth*/) const noexcept {
    if (capturing_stacktraces.load(std::memory_order_relaxed)) note_thrown(*thrown);
    return false;
  }
  virtual bool upcasts(const void* /*type*/, void** /*object*/) const noexcept { return false; }

 private:
  [[maybe_unused]] const char* name_;  // the runtime's
};

// The symbol of that type. nopspan/detail/span_result.h declares the type.
extern const TypeOfClause type_of_clause __asm__("_ZTIN7nopspan6detail12ThrowWatcherE") NOPSPAN_VISIBLE;
__attribute__((used)) const TypeOfClause type_of_clause{"N7nopspan6detail12ThrowWatcherE"};

}  // namespace detail

void capture_stacktraces(bool on) noexcept { detail::capturing_stacktraces.store(on, std::memory_order_relaxed); }

}  // namespace nopspan
