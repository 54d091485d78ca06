// SPDX-License-Identifier: Apache-2.0
#include "base/exceptions.h"

#include <cxxabi.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <typeinfo>

namespace nopspan::detail {
std::string demangle(const char* mangled) {
  if (std::strlen(mangled) > kMostDemangled) return mangled;
  int status = 0;
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  if (text == nullptr) return mangled;
  std::string name = text;
  std::free(text);
  // Report the names that programmers use. std::throw_with_nested() throws a class that is derived from the given one.
  constexpr const char kNested[] = "std::_Nested_exception<";
  if (name.compare(0, sizeof(kNested) - 1, kNested) == 0) {
    name = name.substr(sizeof(kNested) - 1, name.size() - sizeof(kNested));
    if (name.back() == ' ') name.pop_back();
  }
  if (name == "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >") return "std::string";
  return name;
}

// __cxa_current_exception_type() is unsuitable: if the exception is not a C++ exception, libstdc++ reads a type that is
// not there.
bool is_thread_exit() noexcept { return std::current_exception() == nullptr; }

// Itanium C++ ABI, section 2.2.2: __cxa_eh_globals is a pointer to the caught exceptions, followed by this count.
const unsigned* exceptions_in_flight() noexcept {
  return reinterpret_cast<const unsigned*>(reinterpret_cast<const void* const*>(abi::__cxa_get_globals()) + 1);
}

namespace {

// UBSan cannot check the objects, because those that were compiled with -fno-rtti have no type.
__attribute__((no_sanitize("vptr"))) Caught describe(unsigned causes) noexcept;

// The reason of the exception that is nested in the one that is being handled. A clause finds it, and not a
// dynamic_cast, because that reads the type from the object, which has none if it was compiled with -fno-rtti.
__attribute__((no_sanitize("vptr"))) Value cause_of_caught(unsigned causes) noexcept {
  try {
    throw;
  } catch (const std::nested_exception& nested) {
    if (nested.nested_ptr() == nullptr || causes == 0) return {};
    try {
      nested.rethrow_nested();
    } catch (...) {
      try {
        return reason_of(describe(causes - 1));
      } catch (const std::bad_alloc&) {
        return {};
      }
    }
  } catch (...) {
    return {};
  }
}

Caught describe(unsigned causes) noexcept {
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
    caught.cause = cause_of_caught(causes);
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

}  // namespace

Caught describe_caught() noexcept {
  constexpr unsigned kMostCauses = 4;
  return describe(kMostCauses);
}

Value reason_of(const Caught& caught) {
  Value reason =
      Value::map({{"type", caught.type.empty() ? Value() : Value(caught.type)}, {"message", caught.message}});
  if (!caught.cause.is_null()) reason.set("cause", caught.cause);
  return reason;
}

}  // namespace nopspan::detail
