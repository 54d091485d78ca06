# The library: nopspan::nopspan (shared) and nopspan::nopspan_static.

set(nopspan_sources
    src/agent.cpp
    src/agent_catalogue.cpp
    src/attribute_keys.cpp
    src/attributes.cpp
    src/batch.cpp
    src/catalogue.cpp
    src/clean_text.cpp
    src/context.cpp
    src/counters.cpp
    src/default_logger.cpp
    src/engine_times.cpp
    src/event.cpp
    src/events.cpp
    src/exceptions.cpp
    src/facts.cpp
    src/field_buffer.cpp
    src/fields.cpp
    src/frames.cpp
    src/gate.cpp
    src/genai.cpp
    src/genai_mapping.cpp
    src/identity.cpp
    src/intern.cpp
    src/labels.cpp
    src/log.cpp
    src/log_line.cpp
    src/metadata_value.cpp
    src/orphans.cpp
    src/prices.cpp
    src/probe.cpp
    src/registry.cpp
    src/span.cpp
    src/span_attributes.cpp
    src/span_dispatch.cpp
    src/span_pool.cpp
    src/stream_meter.cpp
    src/testing.cpp
    src/thread_state.cpp
    src/trace_id.cpp
    src/tracestate.cpp
    src/value.cpp)
if(nopspan_have_usdt)
  list(APPEND nopspan_sources src/probes.S)
endif()

set(nopspan_headers
    include/nopspan/agent.h
    include/nopspan/config.h
    include/nopspan/context.h
    include/nopspan/coroutine.h
    include/nopspan/engine.h
    include/nopspan/errc.h
    include/nopspan/event.h
    include/nopspan/event_names.h
    include/nopspan/events.h
    include/nopspan/fields.h
    include/nopspan/gate.h
    include/nopspan/genai.h
    include/nopspan/genai_events.h
    include/nopspan/llm.h
    include/nopspan/log.h
    include/nopspan/log_level.h
    include/nopspan/name.h
    include/nopspan/registry.h
    include/nopspan/semconv.h
    include/nopspan/span.h
    include/nopspan/stats.h
    include/nopspan/stream.h
    include/nopspan/stream_meter.h
    include/nopspan/testing.h
    include/nopspan/text.h
    include/nopspan/value.h
    include/nopspan/version.h)

find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED) # headers, for src/prices.cpp

include(CheckCXXCompilerFlag)
set(nopspan_string_strategies -mmemset-strategy=unrolled_loop:256:noalign,libcall:-1:noalign
                              -mmemcpy-strategy=unrolled_loop:256:noalign,libcall:-1:noalign)
check_cxx_compiler_flag("${nopspan_string_strategies}" nopspan_has_string_strategies)

function(nopspan_library target type)
  add_library(${target} ${type} ${nopspan_sources})
  add_library(nopspan::${target} ALIAS ${target})
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS include FILES ${nopspan_headers})
  target_compile_features(${target} PUBLIC cxx_std_17)
  target_compile_definitions(${target} PRIVATE NOPSPAN_HAVE_USDT=$<BOOL:${nopspan_have_usdt}>)
  # gcc clears and copies what has a fixed size with string instructions, whose start takes longer than these sizes do.
  if(nopspan_has_string_strategies)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${nopspan_string_strategies}>)
  endif()
  # -fno-semantic-interposition and hidden visibility: calls inside the library are direct. Warnings are for C++ only:
  # clang's assembler does not know them.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wpedantic>)
  set_target_properties(
    ${target}
    PROPERTIES CXX_EXTENSIONS OFF
               CXX_VISIBILITY_PRESET hidden
               VISIBILITY_INLINES_HIDDEN ON
               POSITION_INDEPENDENT_CODE ON
               VERIFY_INTERFACE_HEADER_SETS ON
               # The sites and the gate must not go through an optimiser together with C++.
               INTERPROCEDURAL_OPTIMIZATION OFF)
  target_link_libraries(${target} PRIVATE Threads::Threads $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)
endfunction()

nopspan_library(nopspan SHARED)
set_target_properties(nopspan PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 0)
# A thread may end, and a handler run, after a dlclose().
target_link_options(nopspan PRIVATE -Wl,-z,nodelete "-Wl,--version-script,${PROJECT_SOURCE_DIR}/src/exports.map")
set_property(TARGET nopspan APPEND PROPERTY LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/exports.map)

nopspan_library(nopspan_static STATIC)
set_target_properties(nopspan_static PROPERTIES OUTPUT_NAME nopspan)
target_compile_definitions(nopspan_static PUBLIC NOPSPAN_STATIC)
