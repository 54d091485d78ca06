# SPDX-License-Identifier: Apache-2.0
# The targets where the headers are a shell (nopspan/detail/config.h): they have the headers, and no library.
foreach(name nopspan nopspan_static recording recording_static opentelemetry opentelemetry_static)
  add_library(nopspan_shell_${name} INTERFACE)
  add_library(nopspan::${name} ALIAS nopspan_shell_${name})
  target_compile_definitions(nopspan_shell_${name} INTERFACE NOPSPAN_SHELL=1)
  target_compile_features(nopspan_shell_${name} INTERFACE cxx_std_17)
  target_include_directories(nopspan_shell_${name} INTERFACE ${PROJECT_SOURCE_DIR}/include)
endforeach()
