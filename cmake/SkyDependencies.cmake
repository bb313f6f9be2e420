# Outside libraries; docs/dependencies.md says why each. ./launch/install-dependencies installs them.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)

# pkg_check_modules remembers a library that was missing; forget it, so that one installed since is found.
macro(sky_find_library prefix)
  if(NOT ${prefix}_FOUND)
    unset(__pkg_config_checked_${prefix} CACHE)
  endif()
  pkg_check_modules(${prefix} ${ARGN})
endmacro()

sky_find_library(JANSSON REQUIRED IMPORTED_TARGET jansson)
sky_find_library(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
sky_find_library(PNG REQUIRED IMPORTED_TARGET libpng)
sky_find_library(ZLIB REQUIRED IMPORTED_TARGET zlib)
# hdf5-serial by name: plain "hdf5" becomes the parallel build where that is installed beside it. 1.10.7: file locks can be
# switched off.
sky_find_library(HDF5 REQUIRED IMPORTED_TARGET "hdf5-serial>=1.10.7")
sky_find_library(FFMPEG QUIET IMPORTED_TARGET libavformat libavcodec libavutil libswscale)
