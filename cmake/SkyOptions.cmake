# Compiler settings and build options.
option(SKY_TESTS "Build the tests" ON)
option(SKY_WERROR "Treat warnings as errors" OFF)
set(SKY_SANITIZE "" CACHE STRING "Sanitizers to build with, as in -fsanitize=")

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
# Asserts of ours stay on in every build; floating point is exactly what the source says (no contraction, see docs/numerics.md).
add_compile_definitions(_GNU_SOURCE)
add_compile_options(-Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla
                    -Wno-missing-field-initializers -ffp-contract=off)
if(SKY_WERROR)
  add_compile_options(-Werror)
endif()
if(SKY_SANITIZE)
  add_compile_options(-fsanitize=${SKY_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${SKY_SANITIZE})
endif()
