# Installs the shells' completion, and the man pages that help2man writes.

# Debian compresses the man pages of its packages, and its zsh reads the completion of packages from a separate folder.
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr" AND EXISTS /etc/debian_version)
  set(nopspan_compress gzip -9nf)
  set(nopspan_page_type 1.gz)
  set(nopspan_zsh_folder vendor-completions)
else()
  set(nopspan_compress ${CMAKE_COMMAND} -E true)
  set(nopspan_page_type 1)
  set(nopspan_zsh_folder site-functions)
endif()
foreach(completion bash:bash-completion/completions/nopspan zsh:zsh/${nopspan_zsh_folder}/_nopspan
                   fish:fish/vendor_completions.d/nopspan.fish)
  string(REGEX MATCH "^(.*):(.*)/(.*)$" completion ${completion})
  install(
    FILES ${PROJECT_SOURCE_DIR}/packaging/completion.${CMAKE_MATCH_1}
    DESTINATION ${CMAKE_INSTALL_DATADIR}/${CMAKE_MATCH_2}
    RENAME ${CMAKE_MATCH_3}
    COMPONENT program)
endforeach()

set(nopspan_no_pages STATUS)
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr") # a package build (package.cmake)
  set(nopspan_no_pages WARNING)
endif()
find_program(NOPSPAN_HELP2MAN help2man)
if(CMAKE_CROSSCOMPILING)
  message(${nopspan_no_pages} "nopspan: no man pages, because help2man runs the program, which does not run here")
  return()
elseif(NOT NOPSPAN_HELP2MAN)
  message(${nopspan_no_pages} "nopspan: no man pages, because help2man was not found (Debian: apt-get install help2man)")
  return()
endif()

set(nopspan_commands ps open top trace blame whatif hist record replay convert export serve doctor)
set(nopspan_pages_dir ${PROJECT_BINARY_DIR}/man)
file(MAKE_DIRECTORY ${nopspan_pages_dir})
list(TRANSFORM nopspan_commands PREPEND ${nopspan_pages_dir}/nopspan- OUTPUT_VARIABLE nopspan_pages)
list(PREPEND nopspan_pages ${nopspan_pages_dir}/nopspan)
list(TRANSFORM nopspan_pages APPEND .1 OUTPUT_VARIABLE nopspan_plain_pages)
list(TRANSFORM nopspan_pages APPEND .${nopspan_page_type})
add_custom_command(
  OUTPUT ${nopspan_pages}
  COMMAND ${PROJECT_SOURCE_DIR}/packaging/man-pages.sh $<TARGET_FILE:nopspan_program> ${PROJECT_VERSION}
          ${nopspan_pages_dir} ${nopspan_commands}
  COMMAND ${nopspan_compress} ${nopspan_plain_pages}
  DEPENDS nopspan_program ${PROJECT_SOURCE_DIR}/packaging/man-pages.sh ${PROJECT_SOURCE_DIR}/packaging/nopspan.h2m
  COMMENT "man pages"
  VERBATIM)
add_custom_target(nopspan_man_pages ALL DEPENDS ${nopspan_pages})
install(FILES ${nopspan_pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
