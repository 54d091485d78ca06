# Installation in three components: the library, what other programs need to build against it (development), and the
# tools (program: the scripts, and the collector if it is built). An installation replaces the library's file and never
# writes into it, because that would kill traced processes with SIGBUS. CMake removes the old file first. tests/consumer
# checks this.

set(nopspan_installed nopspan nopspan_static)
set(nopspan_pcs nopspan nopspan-static)
if(NOPSPAN_RECORDING)
  list(APPEND nopspan_installed nopspan_recording nopspan_recording_static)
  list(APPEND nopspan_pcs nopspan-recording nopspan-recording-static)
endif()
if(NOPSPAN_OPENTELEMETRY)
  list(APPEND nopspan_installed nopspan_opentelemetry nopspan_opentelemetry_static)
  list(APPEND nopspan_pcs nopspan-opentelemetry nopspan-opentelemetry-static)
endif()
install(
  TARGETS ${nopspan_installed}
  EXPORT nopspan-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT development
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
install(
  EXPORT nopspan-targets
  NAMESPACE nopspan::
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nopspan
  COMPONENT development)

configure_package_config_file(cmake/nopspan-config.cmake.in ${PROJECT_BINARY_DIR}/nopspan-config.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nopspan)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/nopspan-config-version.cmake COMPATIBILITY ${nopspan_compatibility})
install(FILES ${PROJECT_BINARY_DIR}/nopspan-config.cmake ${PROJECT_BINARY_DIR}/nopspan-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nopspan COMPONENT development)

# The prefix is relative to the .pc file, as in CMake's package, because `cmake --install --prefix` may change it later.
file(RELATIVE_PATH nopspan_prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" nopspan_prefix_from_pc "${nopspan_prefix_from_pc}")
foreach(nopspan_pc IN LISTS nopspan_pcs)
  configure_file(cmake/${nopspan_pc}.pc.in ${PROJECT_BINARY_DIR}/${nopspan_pc}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${nopspan_pc}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
          COMPONENT development)
endforeach()

install(PROGRAMS scripts/attach.sh scripts/perf-spans.sh DESTINATION ${CMAKE_INSTALL_DATADIR}/nopspan/scripts
        COMPONENT program)
install(
  DIRECTORY scripts/
  DESTINATION ${CMAKE_INSTALL_DATADIR}/nopspan/scripts
  COMPONENT program
  FILES_MATCHING
  PATTERN "*.bt"
  PATTERN "*.stp"
  PATTERN "*.awk"
  PATTERN "README.md")
