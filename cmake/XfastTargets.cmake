# The few build verbs that every folder uses.

find_package(Threads REQUIRED)

add_library(xfast_options INTERFACE)
target_include_directories(xfast_options INTERFACE "${PROJECT_SOURCE_DIR}/csrc")
target_compile_options(xfast_options INTERFACE -Wall -Wextra -Wshadow -Wno-unused-parameter)
target_link_libraries(xfast_options INTERFACE Threads::Threads)
if(XFAST_SANITIZE STREQUAL "address")
  target_compile_options(xfast_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  target_link_options(xfast_options INTERFACE -fsanitize=address,undefined)
elseif(XFAST_SANITIZE STREQUAL "thread")
  target_compile_options(xfast_options INTERFACE -fsanitize=thread -g)
  target_link_options(xfast_options INTERFACE -fsanitize=thread)
elseif(NOT XFAST_SANITIZE STREQUAL "")
  message(FATAL_ERROR "XFAST_SANITIZE is '${XFAST_SANITIZE}'; it takes 'address', 'thread' or nothing")
endif()

if(XFAST_FUZZ)
  target_compile_options(xfast_options INTERFACE -fsanitize-coverage=trace-pc)
endif()

# A static library of one room of csrc, free of Python.
function(xfast_library name)
  add_library(${name} STATIC ${ARGN})
  target_link_libraries(${name} PUBLIC xfast_options)
endfunction()

# Compile SOURCES once per instruction set of this processor family and add the objects to LIBRARY. Each copy sees
# XFAST_ISA_NS as its own namespace (scalar, avx2, avx512, amx; dotprod on arm64); run-time dispatch (common/cpu.h) picks one.
# `-ffp-contract=off` keeps a*b+c the same on every path: only explicit FMA intrinsics fuse.
function(xfast_isa_objects library)
  cmake_parse_arguments(ARG "" "NAME" "SOURCES;LEVELS" ${ARGN})
  foreach(level IN LISTS ARG_LEVELS)
    # NAME tells a second call for the same library apart.
    if(level MATCHES "^(avx2|avx512|amx)$" AND NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
      continue()
    elseif(level STREQUAL "dotprod" AND NOT CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
      continue()
    endif()
    set(object ${library}${ARG_NAME}_${level})
    add_library(${object} OBJECT ${ARG_SOURCES})
    target_link_libraries(${object} PRIVATE xfast_options)
    target_compile_definitions(${object} PRIVATE XFAST_ISA_NS=${level} XFAST_ISA_${level}=1)
    # Sanitizer builds check indexing, not speed: instrumented kernels at -O3 take the compiler minutes.
    target_compile_options(${object} PRIVATE $<IF:$<STREQUAL:${XFAST_SANITIZE},>,-O3,-O1> -ffp-contract=off
      -fopenmp-simd -fno-math-errno -Wno-maybe-uninitialized)  # GCC 12 says that of its own headers
    if(level STREQUAL "avx2")
      target_compile_options(${object} PRIVATE -mavx2 -mfma -mf16c -mbmi2)
    elseif(level STREQUAL "avx512")
      target_compile_options(${object} PRIVATE -march=x86-64-v4 -mavx512vnni -mavx512bf16 -mprefer-vector-width=512)
    elseif(level STREQUAL "amx")
      target_compile_options(${object} PRIVATE -march=x86-64-v4 -mavx512vnni -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16
        -mprefer-vector-width=512)
    elseif(level STREQUAL "dotprod")
      target_compile_options(${object} PRIVATE -march=armv8.2-a+dotprod)
    endif()
    target_sources(${library} PRIVATE $<TARGET_OBJECTS:${object}>)
  endforeach()
endfunction()

# A nanobind module NAME installed into the Python package folder DESTINATION (for example xfast/phoenix).
function(xfast_python_module target)
  cmake_parse_arguments(ARG "" "DESTINATION;NAME" "SOURCES;LIBRARIES" ${ARGN})
  nanobind_add_module(${target} NB_STATIC STABLE_ABI LTO ${ARG_SOURCES})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${ARG_NAME} LIBRARY_OUTPUT_DIRECTORY
    "${CMAKE_BINARY_DIR}/modules/${ARG_DESTINATION}")
  target_link_libraries(${target} PRIVATE ${ARG_LIBRARIES})
  install(TARGETS ${target} LIBRARY DESTINATION ${ARG_DESTINATION})
endfunction()

# A Cython module built from NAME.pyx of the current source folder.
function(xfast_cython_module target)
  cmake_parse_arguments(ARG "" "DESTINATION;NAME" "LIBRARIES" ${ARGN})
  cython_transpile("${CMAKE_CURRENT_SOURCE_DIR}/${ARG_NAME}.pyx" LANGUAGE CXX OUTPUT_VARIABLE generated)
  python_add_library(${target} MODULE "${generated}" WITH_SOABI)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${ARG_NAME} LIBRARY_OUTPUT_DIRECTORY
    "${CMAKE_BINARY_DIR}/modules/${ARG_DESTINATION}")
  target_compile_options(${target} PRIVATE -O3 -Wno-deprecated-declarations)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/csrc")
  if(ARG_LIBRARIES)
    target_link_libraries(${target} PRIVATE ${ARG_LIBRARIES})
  endif()
  install(TARGETS ${target} LIBRARY DESTINATION ${ARG_DESTINATION})
endfunction()

# A C++ test program with its own main (csrc/tests/check.h), registered with ctest.
function(xfast_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE xfast_options ${ARG_LIBRARIES})
  add_test(NAME ${name} COMMAND ${name})
endfunction()
