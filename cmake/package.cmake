# Debian packages: `cmake --workflow --preset package` makes libnopspan0.3, libnopspan-dev and nopspan, one for each component
# of install.cmake. They are made by CPack, because the install rules are then the only list of files. A debian/ folder is
# for the distribution's packager to write.

# GNUInstallDirs sets Debian's library folder only if the build is configured for /usr.
if(NOT CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  return()
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME nopspan)
set(CPACK_PACKAGE_VENDOR nopspan)
set(CPACK_PACKAGE_CONTACT "the authors of nopspan <nopspan@localhost>"
    CACHE STRING "Maintainer of the Debian packages. If you publish them: Your Name <your@address>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "") # each package has its own, in the first line of its description
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON) # GNU strip keeps the probes' notes
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL library development program)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libnopspan${nopspan_abi})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/packaging/deb/triggers)
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "C++ tracing library for LLM services
nopspan reports spans, such as model and tool calls, through USDT probes. A
span costs almost nothing until bpftrace, perf, SystemTap or the program
nopspan attaches to the process.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libnopspan-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "libnopspan${nopspan_abi} (= ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})")
if(NOPSPAN_OPENTELEMETRY)
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SUGGESTS opentelemetry-cpp-dev) # the headers that nopspan/opentelemetry.h includes
endif()
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "C++ tracing library for LLM services - development files
Headers, static library and API reference for programs and libraries that are
built with nopspan.")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME nopspan)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SUGGESTS "bpftrace, linux-perf, systemtap")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_CONTROL_EXTRA
    ${PROJECT_SOURCE_DIR}/packaging/deb/postinst ${PROJECT_SOURCE_DIR}/packaging/deb/prerm
    ${PROJECT_SOURCE_DIR}/packaging/deb/postrm)
set(CPACK_COMPONENT_PROGRAM_DESCRIPTION "trace running programs that use the nopspan library
The program nopspan shows what running processes do: rates, times and tokens
of their spans, requests as trees, and histograms. It also records spans to
files. The package includes scripts for bpftrace, perf and SystemTap, and a
systemd unit.")

# Debian requires compression. -n omits the time, so that two builds are identical.
configure_file(packaging/deb/changelog.in ${PROJECT_BINARY_DIR}/changelog.Debian)
execute_process(
  COMMAND gzip -9nc ${PROJECT_BINARY_DIR}/changelog.Debian OUTPUT_FILE ${PROJECT_BINARY_DIR}/changelog.Debian.gz
  COMMAND_ERROR_IS_FATAL ANY)
# What changed for users.
execute_process(COMMAND gzip -9nc ${PROJECT_SOURCE_DIR}/CHANGELOG.md OUTPUT_FILE ${PROJECT_BINARY_DIR}/changelog.gz
                        COMMAND_ERROR_IS_FATAL ANY)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/CHANGELOG.md)

foreach(nopspan_package libnopspan${nopspan_abi}:library libnopspan-dev:development nopspan:program)
  string(REGEX MATCH "^(.*):(.*)$" nopspan_package ${nopspan_package})
  install(
    FILES packaging/deb/copyright ${PROJECT_BINARY_DIR}/changelog.gz ${PROJECT_BINARY_DIR}/changelog.Debian.gz
    DESTINATION share/doc/${CMAKE_MATCH_1}
    COMPONENT ${CMAKE_MATCH_2})
endforeach()

include(CPack)
