# Everything that comes from outside. launch/setup.sh installs it on Debian and Ubuntu.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
if(NOT CADVLM_FUZZ) # whose harnesses do without (and clang's OpenMP is a package of its own)
  find_package(OpenMP REQUIRED COMPONENTS C)
  find_package(MPI REQUIRED COMPONENTS C)
endif()
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(PNG REQUIRED IMPORTED_TARGET libpng)
pkg_check_modules(JPEG REQUIRED IMPORTED_TARGET libjpeg)
pkg_check_modules(WEBP REQUIRED IMPORTED_TARGET libwebp)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(CAIRO REQUIRED IMPORTED_TARGET cairo)

# Downloads (cadvlm data fetch); the only part that may be missing.
pkg_check_modules(CURL IMPORTED_TARGET libcurl>=7.66)
if(CURL_FOUND)
  set(CADVLM_CURL_STATUS "${CURL_VERSION}")
else()
  set(CADVLM_CURL_STATUS "not found: no downloads (launch/setup.sh installs libcurl4-openssl-dev)")
endif()

# The serial library: Debian names it hdf5-serial; plain "hdf5" may be the MPI build.
pkg_search_module(HDF5 REQUIRED IMPORTED_TARGET hdf5-serial hdf5)

# oneDNN: its CMake package asks for OpenCL, which is not used here.
find_path(DNNL_INCLUDE_DIR dnnl.h REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
file(STRINGS ${DNNL_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h dnnl_lines REGEX "define DNNL_VERSION_(MAJOR|MINOR|PATCH)")
string(REGEX MATCHALL "[0-9]+" dnnl_numbers "${dnnl_lines}")
list(JOIN dnnl_numbers "." DNNL_VERSION)
add_library(dnnl INTERFACE)
target_include_directories(dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
target_link_libraries(dnnl INTERFACE ${DNNL_LIBRARY})

# OpenCASCADE: its CMake package asks for every component; the few libraries used are found by name.
find_path(OCCT_INCLUDE_DIR Standard_Version.hxx PATH_SUFFIXES opencascade)
set(OCCT_LIBRARIES)
foreach(name TKFillet TKOffset TKSTEP TKSTEPAttr TKSTEP209 TKSTEPBase TKXSBase TKSTL TKHLR TKShHealing TKMesh TKBO TKPrim TKTopAlgo TKGeomAlgo
             TKBRep TKGeomBase TKG3d TKG2d TKMath TKernel)
  find_library(OCCT_${name} ${name})
  if(NOT OCCT_${name} OR NOT OCCT_INCLUDE_DIR)
    message(FATAL_ERROR "OpenCASCADE (${name}) was not found: run launch/setup.sh")
  endif()
  list(APPEND OCCT_LIBRARIES ${OCCT_${name}})
endforeach()
file(STRINGS ${OCCT_INCLUDE_DIR}/Standard_Version.hxx occt_line REGEX "define OCC_VERSION_COMPLETE")
string(REGEX MATCH "[0-9.]+" OCCT_VERSION "${occt_line}")
add_library(occt INTERFACE)
target_include_directories(occt SYSTEM INTERFACE ${OCCT_INCLUDE_DIR})
target_link_libraries(occt INTERFACE -Wl,--as-needed ${OCCT_LIBRARIES})

find_path(NANOFLANN_INCLUDE_DIR nanoflann.hpp REQUIRED)
