# What an installation has: programs, presets where config/read.c looks for them, the man page and completions that the program
# writes of itself; and a Debian package of it (cpack).
include(GNUInstallDirs)

set(pages ${PROJECT_BINARY_DIR}/pages)
set(page_files)
foreach(page man:cadvlm.1 bash:cadvlm.bash zsh:_cadvlm)
  string(REPLACE ":" ";" page ${page})
  list(GET page 0 kind)
  list(GET page 1 name)
  add_custom_command(OUTPUT ${pages}/${name} DEPENDS cadvlm
                     COMMAND ${CMAKE_COMMAND} -E make_directory ${pages}
                     COMMAND cadvlm describe ${kind} > ${pages}/${name})
  list(APPEND page_files ${pages}/${name})
endforeach()
add_custom_target(cadvlm_pages ALL DEPENDS ${page_files})

install(TARGETS cadvlm cadvlm-cad RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/config/presets/ DESTINATION ${CMAKE_INSTALL_DATADIR}/cadvlm/presets FILES_MATCHING PATTERN *.yaml)
install(FILES ${pages}/cadvlm.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${pages}/cadvlm.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME cadvlm)
install(FILES ${pages}/_cadvlm DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)

# CUDA's libraries are in no package of Debian: a build with them is passed on by tools/bundle.sh.
if(NOT CADVLM_CUDA_KIND STREQUAL "nvcc")
  set(CPACK_GENERATOR DEB)
  set(CPACK_PACKAGE_CONTACT "the cadvlm contributors")
  set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "train and run models that turn engineering drawings into CAD programs")
  set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "cadvlm trains vision-language models that read a 2D engineering drawing and write the CAD
program that builds the part; it executes, draws and scores such programs.")
  set(CPACK_DEBIAN_PACKAGE_SECTION science)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_RECOMMENDS openmpi-bin)
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
  set(CPACK_STRIP_FILES ON)
  set(CPACK_THREADS 0)
  include(CPack)
endif()
