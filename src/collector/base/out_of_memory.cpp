// SPDX-License-Identifier: Apache-2.0
#include "base/out_of_memory.h"

#include "base/failure.h"

#include <unistd.h>

#include <cstdlib>
#include <new>
#include <string_view>

namespace nopspan::collector {
namespace {

constexpr char kOutOfMemory[] = "out of memory: raise the limit of memory, or use a filter or smaller limits";

bool is_out_of_memory() {
  try {
    if (const std::exception_ptr error = std::current_exception()) std::rethrow_exception(error);
  } catch (const std::bad_alloc&) {
    return true;
  } catch (...) {
    return false;
  }
  // A destructor failed while an exception was on its way, which is what happens without memory.
  return std::uncaught_exceptions() > 0;
}

// A tracing process detaches when this process has ended, and the kernel when a tracing process has. Nothing here
// allocates.
[[noreturn]] void on_terminate() {
  if (!is_out_of_memory()) std::abort();
  for (const std::string_view text :
       {std::string_view("nopspan: "), std::string_view(kOutOfMemory), std::string_view(". The results are lost\n")}) {
    static_cast<void>(write(STDERR_FILENO, text.data(), text.size()));
  }
  _exit(Failure::kFailed);
}

}  // namespace

std::string exception_text(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr ? kOutOfMemory : error.what();
}

void report_out_of_memory_at_the_end() { std::set_terminate(on_terminate); }

}  // namespace nopspan::collector
