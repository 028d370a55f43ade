# cadvlm_module(NAME SOURCES … LIBS …): the static library of one module, cadvlm_NAME, linked as cadvlm::NAME. What may be linked mirrors the include fences
# (tools/check_includes.py).
set(CADVLM_WARNINGS -Wall -Wextra -Wshadow -Wpointer-arith -Wundef -Wformat=2 -Wcast-align -Wimplicit-fallthrough -Wvla
                    -Wunused -Wdouble-promotion)
set(CADVLM_C_WARNINGS -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition)
if(CADVLM_FUZZ) # gcc is asked; clang calls INFINITY as a double and a format that is passed on wrong
  set(CADVLM_WARNINGS)
  set(CADVLM_C_WARNINGS)
endif()

add_library(cadvlm_flags INTERFACE)
target_include_directories(cadvlm_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
target_compile_options(cadvlm_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:${CADVLM_WARNINGS}> $<$<COMPILE_LANGUAGE:C>:${CADVLM_C_WARNINGS}>
                                              $<$<COMPILE_LANGUAGE:C,CXX>:-ffile-prefix-map=${PROJECT_SOURCE_DIR}/= -fno-math-errno>)
target_compile_definitions(cadvlm_flags INTERFACE _GNU_SOURCE)
if(CADVLM_WERROR)
  target_compile_options(cadvlm_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>)
endif()
if(CADVLM_SANITIZE)
  target_compile_options(cadvlm_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(cadvlm_flags INTERFACE -fsanitize=address,undefined)
endif()
if(CADVLM_FUZZ)
  target_compile_options(cadvlm_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(cadvlm_flags INTERFACE -fsanitize=address,undefined -Wl,--as-needed)
endif()

# Threads and limits may leave little stack: what is large lies on the heap. (Sanitizers make frames of their own.)
set(CADVLM_FRAME_MAX 32768)
function(cadvlm_small_frames name)
  if(NOT CADVLM_SANITIZE)
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:C,CXX>:-Wframe-larger-than=${CADVLM_FRAME_MAX}>)
  endif()
endfunction()

function(cadvlm_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  add_library(cadvlm_${name} STATIC ${ARG_SOURCES})
  add_library(cadvlm::${name} ALIAS cadvlm_${name})
  target_link_libraries(cadvlm_${name} PUBLIC cadvlm_flags ${ARG_LIBS})
  cadvlm_small_frames(cadvlm_${name})
endfunction()
