# The man page and the shells' completion: the program writes them of itself.

set(nopspan_texts_dir ${PROJECT_BINARY_DIR}/texts)
file(MAKE_DIRECTORY ${nopspan_texts_dir})
function(nopspan_program_text file)
  add_custom_command(
    OUTPUT ${nopspan_texts_dir}/${file}
    COMMAND nopspan_program ${ARGN} > ${nopspan_texts_dir}/${file}
    DEPENDS nopspan_program
    COMMENT "${file}"
    VERBATIM)
endfunction()
nopspan_program_text(nopspan.1 man-page)
nopspan_program_text(nopspan.bash completion bash)
nopspan_program_text(_nopspan completion zsh)
nopspan_program_text(nopspan.fish completion fish)
install(
  FILES ${nopspan_texts_dir}/nopspan.bash
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
  RENAME nopspan
  COMPONENT program)
install(FILES ${nopspan_texts_dir}/nopspan.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d
        COMPONENT program)
# Debian's packages have man pages compressed, and its zsh looks elsewhere than others for what packages bring.
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr" AND EXISTS /etc/debian_version)
  set(nopspan_page nopspan.1.gz)
  set(nopspan_zsh_folder vendor-completions)
  add_custom_command(
    OUTPUT ${nopspan_texts_dir}/nopspan.1.gz
    COMMAND gzip -9nc ${nopspan_texts_dir}/nopspan.1 > ${nopspan_texts_dir}/nopspan.1.gz
    DEPENDS ${nopspan_texts_dir}/nopspan.1
    COMMENT "nopspan.1.gz"
    VERBATIM)
else()
  set(nopspan_page nopspan.1)
  set(nopspan_zsh_folder site-functions)
endif()
add_custom_target(
  nopspan_texts ALL DEPENDS ${nopspan_texts_dir}/${nopspan_page} ${nopspan_texts_dir}/nopspan.bash
                            ${nopspan_texts_dir}/_nopspan ${nopspan_texts_dir}/nopspan.fish)

install(FILES ${nopspan_texts_dir}/${nopspan_page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
install(FILES ${nopspan_texts_dir}/_nopspan DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/${nopspan_zsh_folder} COMPONENT program)
