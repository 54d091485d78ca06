// SPDX-License-Identifier: Apache-2.0
#include "span.h"

#include <pthread.h>

#include <mutex>
#include <new>
#include <unordered_map>

namespace nopspan::opentelemetry {
inline namespace NOPSPAN_OPENTELEMETRY_ABI {
namespace {

struct Known {
  std::mutex mutex;
  std::unordered_map<std::uint64_t, const Span*> spans;
};

// Not destroyed, because spans may end after the static objects.
Known& known() noexcept {
  alignas(Known) static unsigned char memory[sizeof(Known)];
  static Known* const made = [] {
    auto* const object = new (memory) Known;
    // A child process of fork() must not find the lock taken by a thread that it does not have. The parent's spans are
    // not the child's, and may be locked too. Their list is not destroyed, because that would free memory.
    pthread_atfork([] { known().mutex.lock(); }, [] { known().mutex.unlock(); },
                   [] {
                     new (&known().spans) decltype(Known::spans);
                     known().mutex.unlock();
                   });
    return object;
  }();
  return *made;
}

}  // namespace

void LocalSpans::add(const Span& span, std::uint64_t id) noexcept {
  detail::guarded([&] {
    const std::lock_guard lock(known().mutex);
    known().spans[id] = &span;
  });
}

void LocalSpans::remove(const Span& span, std::uint64_t id) noexcept {
  const std::lock_guard lock(known().mutex);
  const auto found = known().spans.find(id);
  if (found != known().spans.end() && found->second == &span) known().spans.erase(found);
}

LocalSpans::Lookup::Lookup(std::uint64_t id) noexcept {
  known().mutex.lock();
  const auto found = known().spans.find(id);
  if (found != known().spans.end()) span_ = found->second;
}

LocalSpans::Lookup::~Lookup() { known().mutex.unlock(); }

}  // namespace NOPSPAN_OPENTELEMETRY_ABI
}  // namespace nopspan::opentelemetry
