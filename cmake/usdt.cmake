# Sets nopspan_have_usdt, depending on NOPSPAN_USDT and on <sys/sdt.h>.
include(CheckIncludeFile)

set(nopspan_have_usdt FALSE)
if(NOT NOPSPAN_USDT MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "NOPSPAN_USDT must be AUTO, ON or OFF, and not \"${NOPSPAN_USDT}\"")
endif()
if(NOT NOPSPAN_USDT STREQUAL "OFF")
  check_include_file(sys/sdt.h NOPSPAN_HAVE_SDT_H)
  set(nopspan_usdt_problem "<sys/sdt.h> was not found (Debian: apt-get install systemtap-sdt-dev)")
  if(NOPSPAN_HAVE_SDT_H)
    set(nopspan_have_usdt TRUE)
  elseif(NOPSPAN_USDT STREQUAL "ON")
    message(FATAL_ERROR "NOPSPAN_USDT=ON, but ${nopspan_usdt_problem}")
  else()
    message(WARNING "nopspan is built without probes: ${nopspan_usdt_problem}. In-process handlers work. "
                    "To build without probes on purpose, set NOPSPAN_USDT=OFF.")
  endif()
endif()
