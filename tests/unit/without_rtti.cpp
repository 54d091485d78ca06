// SPDX-License-Identifier: Apache-2.0
// Compiled with -fno-rtti, so the objects of its classes do not have their types.
#include <exception>

void throw_without_rtti();

struct WithoutRtti : std::exception, std::nested_exception {
  [[nodiscard]] const char* what() const noexcept override { return "failed"; }
};

void throw_without_rtti() {
  try {
    throw 7;
  } catch (int) {
    throw WithoutRtti();
  }
}
