# The preset `fuzz`: clang with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer, and of the tree what reads
# files. Included before project(): it chooses the compilers.
option(CADVLM_FUZZ "Build the fuzz harnesses of tests/fuzz instead of the programs (needs clang)" OFF)

if(CADVLM_FUZZ)
  find_program(CADVLM_CLANG NAMES clang-14 clang)
  find_program(CADVLM_CLANGXX NAMES clang++-14 clang++)
  if(NOT CADVLM_CLANG OR NOT CADVLM_CLANGXX)
    message(FATAL_ERROR "the fuzz harnesses need clang with libFuzzer, and found none: launch/setup.sh --dev installs it")
  endif()
  execute_process(COMMAND uname -m OUTPUT_VARIABLE machine OUTPUT_STRIP_TRAILING_WHITESPACE)
  execute_process(COMMAND ${CADVLM_CLANG} --print-file-name=libclang_rt.fuzzer-${machine}.a OUTPUT_VARIABLE fuzzer
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT EXISTS "${fuzzer}")
    message(FATAL_ERROR "${CADVLM_CLANG} has no libFuzzer (${fuzzer}): launch/setup.sh --dev installs it")
  endif()
  set(CMAKE_C_COMPILER ${CADVLM_CLANG})
  set(CMAKE_CXX_COMPILER ${CADVLM_CLANGXX})
endif()
