// SPDX-License-Identifier: Apache-2.0
#include "base/exceptions.h"

#include <cxxabi.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <typeinfo>

namespace nopspan::detail {
namespace {

// __cxa_demangle() uses up to 370 bytes of stack for each character of the name.
constexpr std::size_t kMostDemangled = 128;

std::string demangle(const char* mangled) {
  if (std::strlen(mangled) > kMostDemangled) return mangled;
  int status = 0;
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  if (text == nullptr) return mangled;
  std::string name = text;
  std::free(text);
  // Report the name that programmers use.
  if (name == "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >") return "std::string";
  return name;
}

}  // namespace

// __cxa_current_exception_type() is unsuitable: if the exception is not a C++ exception, libstdc++ reads a type that is
// not there.
bool is_thread_exit() noexcept { return std::current_exception() == nullptr; }

// Itanium C++ ABI, section 2.2.2: __cxa_eh_globals is a pointer to the caught exceptions, followed by this count.
const unsigned* exceptions_in_flight() noexcept {
  return reinterpret_cast<const unsigned*>(reinterpret_cast<const void* const*>(abi::__cxa_get_globals()) + 1);
}

Caught describe_caught() noexcept {
  Caught caught;
  if (is_thread_exit()) return caught;  // must come first: the calls below are valid for C++ exceptions only
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (type == nullptr) return caught;
  caught.kind = "throw";
  try {
    caught.type = demangle(type->name());
    throw;
  } catch (const std::exception& error) {
    caught.kind = "error";
    try {
      if (const char* what = error.what(); what != nullptr) caught.message = what;
    } catch (...) {
    }
  } catch (const std::string& text) {
    try {
      caught.message = text;
    } catch (...) {
    }
  } catch (const char* text) {
    try {
      if (text != nullptr) caught.message = text;
    } catch (...) {
    }
  } catch (...) {
  }
  return caught;
}

Value reason_of(const Caught& caught) {
  return Value::map({{"type", caught.type.empty() ? Value() : Value(caught.type)}, {"message", caught.message}});
}

}  // namespace nopspan::detail
