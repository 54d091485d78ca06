// SPDX-License-Identifier: Apache-2.0
#include "thread/log.h"

#include "base/clean_text.h"
#include "base/counters.h"
#include "base/exceptions.h"
#include "base/kept_errno.h"

#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <exception>
#include <iterator>
#include <memory>
#include <utility>

namespace nopspan {
namespace {

// std templates are instantiated over this local type, so that their instances stay in this copy of the library. The
// linker would merge instances over a public type with those of another static copy.
struct Kept {
  LogSink sink;
};

struct Sink {
  std::mutex mutex;
  std::shared_ptr<const Kept> current;  // null: the default
};
// Never destroyed, because spans may still end while the destructors of static objects run. Not allocated, because a
// span in a signal handler may log.
union Forever {
  Sink sink;
  constexpr Forever() noexcept : sink() {}
  ~Forever() {}  // NOLINT(modernize-use-equals-default): a union with such a member has no default one
};
Forever forever;
Sink& sink() { return forever.sink; }

void keep(LogLevel level, std::string_view message) noexcept {
  using detail::kWarnings, detail::warning_table;
  static std::atomic<std::uint32_t> kept{0};
  detail::count(detail::counters.warnings);
  if (kept.load(std::memory_order_relaxed) >= kWarnings) return;
  const std::uint32_t place = kept.fetch_add(1, std::memory_order_relaxed);
  if (place >= kWarnings) return;
  nopspan_warning& warning = warning_table[place];
  warning.level = static_cast<unsigned>(level);
  const std::size_t size = message.copy(warning.text, sizeof(warning.text));
  __atomic_store_n(&warning.size, static_cast<unsigned>(size), __ATOMIC_RELEASE);
}

constexpr std::string_view kEllipsis = "\u2026";

// True for control characters, and for Unicode's line and paragraph separators.
bool is_unseen(std::string_view sequence) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(sequence[i]); };
  if (sequence.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7f;
  if (sequence.size() == 2) return byte(0) == 0xc2 && byte(1) < 0xa0;
  return sequence == "\u2028" || sequence == "\u2029";
}

}  // namespace

const char* to_string(LogLevel level) noexcept {
  constexpr const char* kLevels[] = {"debug", "info", "warning", "error"};
  const auto i = static_cast<std::size_t>(level);
  return i < std::size(kLevels) ? kLevels[i] : "error";
}

void set_log_sink(LogSink new_sink) {
  std::shared_ptr<const Kept> made;
  if (new_sink) made = std::make_shared<const Kept>(Kept{std::move(new_sink)});
  const detail::InsideLibrary inside;
  const std::lock_guard<std::mutex> lock(sink().mutex);
  sink().current.swap(made);
}

namespace detail {

nopspan_warning warning_table[kWarnings];

LogLine& LogLine::add_printable(std::string_view text, std::size_t limit, std::string_view refused) noexcept {
  const bool cut = text.size() > limit;
  const std::size_t end = cut ? limit - kEllipsis.size() : text.size();
  for (std::size_t i = 0; i < end;) {
    const std::string_view sequence = text.substr(i, utf8_sequence(text, i));
    if (i + sequence.size() > end) break;  // do not split a character
    const bool stays = !sequence.empty() && !is_unseen(sequence) && refused.find(sequence) == std::string_view::npos;
    add(stays ? sequence : "?");
    i += sequence.empty() ? 1 : sequence.size();
  }
  return cut ? add(kEllipsis) : *this;
}

std::string printable(std::string_view text, std::size_t limit, std::string_view refused) {
  return std::string(LogLine().add_printable(text, limit, refused).view());
}

void log(LogLevel level, NoSink no_sink, std::string_view message, std::size_t content_at) noexcept {
  const NoCancellation no_cancellation;
  std::shared_ptr<const Kept> current;
  {
    // Refuses spans in a signal handler that interrupts this block: if one logged, it would deadlock on the mutex.
    const InsideLibrary inside;
    const std::lock_guard<std::mutex> lock(sink().mutex);
    current = sink().current;
  }
  if (current != nullptr) {
    try {
      current->sink(level, message);
    } catch (...) {
      if (is_thread_exit()) std::terminate();  // it must not be swallowed, and it cannot leave a noexcept function
    }
  } else if (no_sink == NoSink::keep) {
    keep(level, message.substr(0, content_at));
  } else {
    const InsideLibrary inside;
    const KeptErrno kept_errno;
    const auto part = [](std::string_view text) { return iovec{const_cast<char*>(text.data()), text.size()}; };
    const iovec parts[] = {part("nopspan: "), part(to_string(level)), part(": "), part(message), part("\n")};
    [[maybe_unused]] const ssize_t written = writev(STDERR_FILENO, parts, 5);  // one call, so that no lines mix
  }
}

std::mutex& log_lock() noexcept { return sink().mutex; }

}  // namespace detail
}  // namespace nopspan
