# Compiler settings and build options.
option(SKY_TESTS "Build the tests" ON)
option(SKY_WERROR "Treat warnings as errors (./launch/check and CI do)" OFF)
option(SKY_BENCH "Build the benchmarks in bench/" OFF)
option(SKY_FUZZ "Build the fuzz targets in tests/fuzz" OFF)
set(SKY_SANITIZE "" CACHE STRING "Sanitizers to build with, as in -fsanitize=")
set(SKY_CUDA AUTO CACHE STRING "CUDA backend: AUTO where nvcc is found, ON or OFF")
set_property(CACHE SKY_CUDA PROPERTY STRINGS AUTO ON OFF)
option(BUILD_SHARED_LIBS "Build libskyreels as a shared library" OFF)

# src/ops/cpu is written with __builtin_shufflevector and __builtin_convertvector.
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_C_COMPILER_VERSION VERSION_LESS 12)
  message(FATAL_ERROR "GCC ${CMAKE_C_COMPILER_VERSION} lacks vector builtins that src/ops/cpu uses; want GCC 12 or later, "
                      "or clang: -DCMAKE_C_COMPILER=gcc-12 in a new build folder.")
endif()
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# Release is -O3 with line tables only: a stack trace names file and line, and the programs stay small.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
endif()
set(CMAKE_C_FLAGS_RELEASE "-O3 -g1")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")

# CUDA's compiler takes other words for its options (kernels/CMakeLists.txt).
function(sky_add_c_options)
  foreach(option IN LISTS ARGV)
    add_compile_options($<$<COMPILE_LANGUAGE:C>:${option}>)
  endforeach()
endfunction()

# Asserts of ours stay on in every build; floating point is exactly what the source says (no contraction, see docs/numerics.md).
add_compile_definitions(_GNU_SOURCE)
sky_add_c_options(-Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla
                    -Wno-missing-field-initializers -ffp-contract=off)

# What compiler and linker offer against the next mistake in code that reads files of strangers. _FORTIFY_SOURCE needs
# optimisation, and the sanitizers look themselves. A value of its own in CFLAGS (a distribution's) stands.
option(SKY_HARDEN "Stack protector, _FORTIFY_SOURCE, full RELRO, PIE" ON)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
if(SKY_HARDEN)
  sky_add_c_options(-fstack-protector-strong -fstack-clash-protection)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    sky_add_c_options(-fcf-protection)
  endif()
  if(NOT SKY_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT CMAKE_C_FLAGS MATCHES "_FORTIFY_SOURCE")
    sky_add_c_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
  endif()
  add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
endif()
if(SKY_WERROR)
  sky_add_c_options(-Werror)
endif()
if(SKY_SANITIZE)
  # A finding ends the program, so that no test passes over one.
  sky_add_c_options(-fsanitize=${SKY_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${SKY_SANITIZE})
endif()
