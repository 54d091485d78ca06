# Installing. The library's file is replaced, never written in place: that would kill traced processes with SIGBUS (cmake
# removes the old file first; tests/consumer checks that it does).

install(
  TARGETS nopspan nopspan_static
  EXPORT nopspan-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES probes/nopspan_probes.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/nopspan)
install(
  EXPORT nopspan-targets
  NAMESPACE nopspan::
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nopspan)

configure_package_config_file(cmake/nopspan-config.cmake.in ${PROJECT_BINARY_DIR}/nopspan-config.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nopspan)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/nopspan-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/nopspan-config.cmake ${PROJECT_BINARY_DIR}/nopspan-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nopspan)

# Found from where the .pc file lies, as CMake's package is: `cmake --install --prefix` decides only then.
file(RELATIVE_PATH nopspan_prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" nopspan_prefix_from_pc "${nopspan_prefix_from_pc}")
foreach(nopspan_pc nopspan nopspan-static)
  configure_file(cmake/${nopspan_pc}.pc.in ${PROJECT_BINARY_DIR}/${nopspan_pc}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${nopspan_pc}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()

install(PROGRAMS scripts/attach.sh DESTINATION ${CMAKE_INSTALL_DATADIR}/nopspan/scripts)
install(
  DIRECTORY scripts/
  DESTINATION ${CMAKE_INSTALL_DATADIR}/nopspan/scripts
  FILES_MATCHING
  PATTERN "*.bt"
  PATTERN "*.stp")
