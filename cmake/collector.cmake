# The collector: the program `nopspan` (target nopspan_program), on a library of its own (nopspan_collector) that tests
# link too. It knows libnopspan by probes/nopspan_probes.h alone, and nothing of it is needed to build or use that.

find_package(PkgConfig QUIET)
set(nopspan_missing)
# What is found here, and by which Debian package it comes.
macro(nopspan_need found package)
  if(NOT ${found})
    list(APPEND nopspan_missing ${package})
  endif()
endmacro()

if(PkgConfig_FOUND)
  pkg_check_modules(LIBBPF QUIET IMPORTED_TARGET libbpf>=1.1)
  pkg_check_modules(LIBELF QUIET IMPORTED_TARGET libelf)
  pkg_check_modules(ZLIB QUIET IMPORTED_TARGET zlib)
  pkg_check_modules(NCURSESW QUIET IMPORTED_TARGET ncursesw)
  pkg_check_modules(PROMETHEUS QUIET IMPORTED_TARGET prometheus-cpp-core)
endif()
find_package(CLI11 QUIET)
find_package(nlohmann_json QUIET)
find_path(PROTOZERO_INCLUDE_DIR protozero/pbf_writer.hpp)
# Debian has bpftool where a user's PATH does not lead.
find_program(NOPSPAN_BPFTOOL bpftool PATHS /usr/sbin /usr/local/sbin)
find_program(NOPSPAN_BPF_CLANG NAMES clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14)
find_program(NOPSPAN_LLVM_STRIP NAMES llvm-strip llvm-strip-19 llvm-strip-18 llvm-strip-17 llvm-strip-16 llvm-strip-15
                                      llvm-strip-14)

nopspan_need(PkgConfig_FOUND pkg-config)
nopspan_need(LIBBPF_FOUND libbpf-dev)
nopspan_need(LIBELF_FOUND libelf-dev)
nopspan_need(ZLIB_FOUND zlib1g-dev)
nopspan_need(NCURSESW_FOUND libncurses-dev)
nopspan_need(CLI11_FOUND libcli11-dev)
nopspan_need(nlohmann_json_FOUND nlohmann-json3-dev)
nopspan_need(PROTOZERO_INCLUDE_DIR libprotozero-dev)
nopspan_need(PROMETHEUS_FOUND prometheus-cpp-dev)
nopspan_need(NOPSPAN_BPFTOOL bpftool)
nopspan_need(NOPSPAN_BPF_CLANG clang)
nopspan_need(NOPSPAN_LLVM_STRIP llvm)
if(nopspan_missing)
  list(JOIN nopspan_missing " " nopspan_missing)
  message(FATAL_ERROR "The collector needs what was not found (libbpf from 1.1 on). Debian:\n"
                      "  apt-get install ${nopspan_missing}\n"
                      "-DNOPSPAN_COLLECTOR=OFF builds the library without it.")
endif()

set(NOPSPAN_VMLINUX_H "" CACHE FILEPATH "The kernel's types as C; empty: made by bpftool from this kernel's BTF")
set(nopspan_bpf_dir ${PROJECT_BINARY_DIR}/bpf)
file(MAKE_DIRECTORY ${nopspan_bpf_dir})
if(NOPSPAN_VMLINUX_H)
  if(NOT EXISTS ${NOPSPAN_VMLINUX_H})
    message(FATAL_ERROR "NOPSPAN_VMLINUX_H is \"${NOPSPAN_VMLINUX_H}\": there is no such file")
  endif()
  configure_file(${NOPSPAN_VMLINUX_H} ${nopspan_bpf_dir}/vmlinux.h COPYONLY)
elseif(EXISTS /sys/kernel/btf/vmlinux)
  # Into another file first: a half written one would look made.
  add_custom_command(
    OUTPUT ${nopspan_bpf_dir}/vmlinux.h
    COMMAND ${NOPSPAN_BPFTOOL} btf dump file /sys/kernel/btf/vmlinux format c > ${nopspan_bpf_dir}/vmlinux.h.new
    COMMAND ${CMAKE_COMMAND} -E rename ${nopspan_bpf_dir}/vmlinux.h.new ${nopspan_bpf_dir}/vmlinux.h
    COMMENT "vmlinux.h from this kernel's BTF"
    VERBATIM)
else()
  message(FATAL_ERROR "The collector's BPF programs need the kernel's types, and this kernel does not tell them "
                      "(no /sys/kernel/btf/vmlinux). Make them where a kernel does:\n"
                      "  bpftool btf dump file /sys/kernel/btf/vmlinux format c > vmlinux.h\n"
                      "and give them by -DNOPSPAN_VMLINUX_H=/path/vmlinux.h; -DNOPSPAN_COLLECTOR=OFF builds without.")
endif()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(nopspan_bpf_arch arm64)
else()
  set(nopspan_bpf_arch x86)
endif()
# After clang's own headers: <asm/types.h>, which <linux/types.h> wants, lies in Debian's multiarch folder.
set(nopspan_bpf_includes)
if(CMAKE_LIBRARY_ARCHITECTURE)
  set(nopspan_bpf_includes -idirafter /usr/include/${CMAKE_LIBRARY_ARCHITECTURE})
endif()

# nopspan_bpf_skeleton(probes/NAME.bpf.c): bpf/NAME.skel.h, with the object in it. Names of its functions begin with NAME.
# -mcpu is said because clang's default changes; v2 is what every kernel from 4.14 on understands.
function(nopspan_bpf_skeleton source)
  get_filename_component(name ${source} NAME)
  string(REGEX REPLACE "\\.bpf\\.c$" "" name ${name})
  set(object ${nopspan_bpf_dir}/${name}.bpf.o)
  set(skeleton ${nopspan_bpf_dir}/${name}.skel.h)
  add_custom_command(
    OUTPUT ${object}
    COMMAND
      ${NOPSPAN_BPF_CLANG} -O2 -g -target bpf -mcpu=v2 -D__TARGET_ARCH_${nopspan_bpf_arch} -Wall
      -ffile-prefix-map=${PROJECT_SOURCE_DIR}/= -I ${PROJECT_SOURCE_DIR}/probes -I ${nopspan_bpf_dir}
      ${nopspan_bpf_includes} -MD -MF ${object}.d -MT ${object} -c ${PROJECT_SOURCE_DIR}/${source} -o ${object}
    COMMAND ${NOPSPAN_LLVM_STRIP} -g ${object}
    DEPENDS ${PROJECT_SOURCE_DIR}/${source} ${nopspan_bpf_dir}/vmlinux.h
    DEPFILE ${object}.d
    COMMENT "BPF object ${name}.bpf.o"
    VERBATIM)
  add_custom_command(
    OUTPUT ${skeleton}
    COMMAND ${NOPSPAN_BPFTOOL} gen skeleton ${object} name ${name} > ${skeleton}.new
    COMMAND ${CMAKE_COMMAND} -E rename ${skeleton}.new ${skeleton}
    DEPENDS ${object}
    COMMENT "BPF skeleton ${name}.skel.h"
    VERBATIM)
  set_property(GLOBAL APPEND PROPERTY nopspan_bpf_skeletons ${skeleton})
endfunction()

set(nopspan_bpf_programs probes/collector.bpf.c probes/hist.bpf.c)
set(nopspan_collector_sources
    src/collector/base/cells.cpp
    src/collector/base/file_watch.cpp
    src/collector/base/has_screen.cpp
    src/collector/base/interned_texts.cpp
    src/collector/base/log_linear.cpp
    src/collector/base/numbered_folder.cpp
    src/collector/base/slice_histogram.cpp
    src/collector/base/styled_line.cpp
    src/collector/base/terminal.cpp
    src/collector/base/text.cpp
    src/collector/base/text_table.cpp
    src/collector/base/utf8.cpp
    src/collector/command/command_doctor.cpp
    src/collector/command/command_hist.cpp
    src/collector/command/command_ps.cpp
    src/collector/command/command_record.cpp
    src/collector/command/command_replay.cpp
    src/collector/command/command_top.cpp
    src/collector/command/command_trace.cpp
    src/collector/command/command_words.cpp
    src/collector/command/completion.cpp
    src/collector/command/help_text.cpp
    src/collector/command/man_page.cpp
    src/collector/command/open_source.cpp
    src/collector/command/options.cpp
    src/collector/command/suggestion.cpp
    src/collector/doctor/kernel_checks.cpp
    src/collector/doctor/privilege_checks.cpp
    src/collector/doctor/process_checks.cpp
    src/collector/doctor/self_probe.cpp
    src/collector/hist/hist_merge.cpp
    src/collector/hist/hist_processes.cpp
    src/collector/hist/hist_program.cpp
    src/collector/hist/hist_quantity.cpp
    src/collector/hist/hist_recording.cpp
    src/collector/hist/hist_source.cpp
    src/collector/hist/hist_table.cpp
    src/collector/hist/hist_view.cpp
    src/collector/host/capabilities.cpp
    src/collector/host/cgroup_folder.cpp
    src/collector/host/container.cpp
    src/collector/host/elf_file.cpp
    src/collector/host/hidden_processes.cpp
    src/collector/host/host.cpp
    src/collector/host/known_files.cpp
    src/collector/host/library_view.cpp
    src/collector/host/listeners.cpp
    src/collector/host/mapped_file.cpp
    src/collector/host/maps.cpp
    src/collector/host/pid_namespace.cpp
    src/collector/host/probe_file.cpp
    src/collector/host/process_facts.cpp
    src/collector/host/process_memory.cpp
    src/collector/host/process_report.cpp
    src/collector/host/thread_ids.cpp
    src/collector/host/trace_events.cpp
    src/collector/live/accounts.cpp
    src/collector/live/attachments.cpp
    src/collector/live/batch_reader.cpp
    src/collector/live/clock_map.cpp
    src/collector/live/delivery.cpp
    src/collector/live/scope.cpp
    src/collector/live/drain.cpp
    src/collector/live/event_reader.cpp
    src/collector/live/kernel_programs.cpp
    src/collector/live/live_source.cpp
    src/collector/live/probe_link.cpp
    src/collector/live/process_account.cpp
    src/collector/live/stream_ledger.cpp
    src/collector/live/thread_headers.cpp
    src/collector/model/attributes_json.cpp
    src/collector/model/filter.cpp
    src/collector/model/ledger.cpp
    src/collector/model/ledger_metrics.cpp
    src/collector/model/metrics_file.cpp
    src/collector/model/otlp_attributes.cpp
    src/collector/model/remote_parents.cpp
    src/collector/model/row_key.cpp
    src/collector/model/run_source.cpp
    src/collector/model/span.cpp
    src/collector/model/span_json.cpp
    src/collector/recording/frames.cpp
    src/collector/recording/otlp_names.cpp
    src/collector/recording/otlp_reader.cpp
    src/collector/recording/otlp_spans.cpp
    src/collector/recording/recorder.cpp
    src/collector/recording/recording.cpp
    src/collector/recording/replay_summary.cpp
    src/collector/top/gauge_board.cpp
    src/collector/top/span_table.cpp
    src/collector/top/top_detail.cpp
    src/collector/top/top_feed.cpp
    src/collector/top/top_print.cpp
    src/collector/top/top_runner.cpp
    src/collector/top/top_screen.cpp
    src/collector/top/top_summary.cpp
    src/collector/top/top_table.cpp
    src/collector/trace/shared_spans.cpp
    src/collector/trace/trace.cpp
    src/collector/trace/trace_assembler.cpp
    src/collector/trace/trace_filter.cpp
    src/collector/trace/trace_fold.cpp
    src/collector/trace/trace_json.cpp
    src/collector/trace/trace_links.cpp
    src/collector/trace/trace_tree.cpp)

foreach(nopspan_bpf_program IN LISTS nopspan_bpf_programs)
  nopspan_bpf_skeleton(${nopspan_bpf_program})
endforeach()
get_property(nopspan_bpf_skeletons GLOBAL PROPERTY nopspan_bpf_skeletons)
add_custom_target(nopspan_bpf DEPENDS ${nopspan_bpf_skeletons})

find_package(Threads REQUIRED)

add_library(nopspan_collector STATIC ${nopspan_collector_sources})
add_dependencies(nopspan_collector nopspan_bpf)
target_include_directories(nopspan_collector PUBLIC ${PROJECT_SOURCE_DIR}/src/collector ${PROJECT_SOURCE_DIR}/probes)
# Not ours: no warnings of them.
target_include_directories(nopspan_collector SYSTEM PUBLIC ${nopspan_bpf_dir} ${PROTOZERO_INCLUDE_DIR})
target_link_libraries(
  nopspan_collector
  PUBLIC PkgConfig::LIBBPF
         PkgConfig::LIBELF
         PkgConfig::ZLIB
         PkgConfig::NCURSESW
         PkgConfig::PROMETHEUS
         CLI11::CLI11
         nlohmann_json::nlohmann_json
         Threads::Threads)
target_compile_features(nopspan_collector PUBLIC cxx_std_20)

add_executable(nopspan_program src/collector/command/main.cpp)
target_link_libraries(nopspan_program PRIVATE nopspan_collector)
target_compile_definitions(nopspan_program PRIVATE NOPSPAN_VERSION="${PROJECT_VERSION}")
set_target_properties(nopspan_program PROPERTIES OUTPUT_NAME nopspan)

foreach(nopspan_target nopspan_collector nopspan_program)
  set_target_properties(${nopspan_target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  target_compile_options(
    ${nopspan_target}
    PRIVATE -Wall -Wextra -Wshadow -Wpedantic
            # At -O3 gcc 12 sees overlaps in "text" + std::string that cannot be (gcc's bug 105651).
            $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>)
endforeach()

if(NOPSPAN_INSTALL)
  install(TARGETS nopspan_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
  install(FILES packaging/nopspan.service DESTINATION lib/systemd/system COMPONENT program)
  install(PROGRAMS packaging/nopspan-generator DESTINATION lib/systemd/system-generators COMPONENT program)
  if(CMAKE_CROSSCOMPILING)
    message(STATUS "nopspan: no man page and no completion, because the program that writes them does not run here")
  else()
    include(cmake/program_texts.cmake)
  endif()
endif()
