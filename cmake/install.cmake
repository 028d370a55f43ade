# What an installation has: programs, presets where config/read.c looks for them, the man page and completions that the program
# writes of itself (launch/command_describe.c); and a Debian package of it (cpack).
include(GNUInstallDirs)

# ---- programs ----

# They find again what they were linked to (CUDA, NCCL, a cluster's modules) where the loader does not look. What CMake itself would
# take down has folders of the system too, through links in them.
if(NOT DEFINED CMAKE_INSTALL_RPATH)
  set(install_rpath)
  foreach(library ${MPI_C_LIBRARIES} ${CADVLM_NCCL_LIBRARY} ${CUDA_cublasLt_LIBRARY} ${DNNL_LIBRARY} ${OCCT_LIBRARIES} ${YAML_LINK_LIBRARIES}
                  ${JANSSON_LINK_LIBRARIES} ${XXHASH_LINK_LIBRARIES} ${CRYPTO_LINK_LIBRARIES} ${PNG_LINK_LIBRARIES} ${JPEG_LINK_LIBRARIES}
                  ${WEBP_LINK_LIBRARIES} ${PCRE2_LINK_LIBRARIES} ${CAIRO_LINK_LIBRARIES} ${CURL_LINK_LIBRARIES} ${HDF5_LINK_LIBRARIES})
    get_filename_component(folder "${library}" DIRECTORY)
    if(IS_ABSOLUTE "${library}" AND NOT folder MATCHES "^(/usr)?/lib(32|64)?(/|$)")
      list(APPEND install_rpath ${folder})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES install_rpath)
  set_target_properties(cadvlm cadvlm-cad PROPERTIES INSTALL_RPATH "${install_rpath}")
endif()
install(TARGETS cadvlm cadvlm-cad RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/config/presets/ DESTINATION ${CMAKE_INSTALL_DATADIR}/cadvlm/presets FILES_MATCHING PATTERN *.yaml)

# ---- pages ----

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

install(FILES ${pages}/cadvlm.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${pages}/cadvlm.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME cadvlm)
install(FILES ${pages}/_cadvlm DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
# Debian's zsh does not look there under /usr, but into a folder of its own.
install(CODE "if(CMAKE_INSTALL_PREFIX STREQUAL \"/usr\" AND EXISTS /etc/debian_version)
  file(INSTALL \"${pages}/_cadvlm\" DESTINATION \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions\")
endif()")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
install(FILES ${PROJECT_SOURCE_DIR}/config/finetune_config.yaml ${PROJECT_SOURCE_DIR}/config/test_config.yaml
        DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)

# ---- a Debian package ----

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "cadvlm contributors <nobody@cadvlm.invalid>") # no address is known
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "train and run models that turn engineering drawings into CAD programs")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "cadvlm trains vision-language models that read a 2D engineering drawing and write the CAD
program that builds the part; it executes, draws and scores such programs.")
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS openmpi-bin)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_STRIP_FILES ON)
set(CPACK_THREADS 0)
if(CADVLM_CUDA_KIND STREQUAL "nvcc")
  # dpkg-shlibdeps leaves out what is in no package.
  string(APPEND CPACK_DEBIAN_PACKAGE_DESCRIPTION "
This build needs cuBLAS of CUDA ${CUDAToolkit_VERSION_MAJOR}, and NCCL if it was built with it, which Debian has not: the dependencies
leave them out, and they are expected where they were when it was built, or where the loader looks.")
endif()
include(CPack)
