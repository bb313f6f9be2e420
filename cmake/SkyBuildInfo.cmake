# build_info.h: version, commit and compiler, for --version. Link sky_build_info and include "build_info.h".
#
# Written again only when the checked-out commit moves (git's log of HEAD changes), and touched only when its text
# changes, so that a build with nothing to do does nothing. Local changes on top of the commit are not shown.
set(build_info_folder ${CMAKE_BINARY_DIR}/generated)
set(build_info_script ${CMAKE_CURRENT_LIST_DIR}/write_build_info.cmake)
set(build_info_template ${CMAKE_CURRENT_LIST_DIR}/build_info.h.in)

find_package(Git QUIET)
set(build_info_watch "")
if(Git_FOUND)
  foreach(name logs/HEAD HEAD)
    execute_process(COMMAND ${GIT_EXECUTABLE} -c safe.directory=${CMAKE_SOURCE_DIR} rev-parse --git-path ${name}
                    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    cmake_path(ABSOLUTE_PATH path BASE_DIRECTORY ${CMAKE_SOURCE_DIR})
    if(NOT build_info_watch AND EXISTS ${path} AND NOT IS_DIRECTORY ${path})
      set(build_info_watch ${path})
    endif()
  endforeach()
endif()

set(build_info_type ${CMAKE_BUILD_TYPE})
if(SKY_SANITIZE)
  string(APPEND build_info_type ", ${SKY_SANITIZE}")
endif()
add_custom_command(
  OUTPUT ${build_info_folder}/build_info.h
  COMMAND ${CMAKE_COMMAND} -D SOURCE=${CMAKE_SOURCE_DIR} -D "GIT=${GIT_EXECUTABLE}" -D TEMPLATE=${build_info_template}
          -D OUTPUT=${build_info_folder}/build_info.h -D VERSION=${PROJECT_VERSION}
          -D "COMPILER=${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}" -D "TYPE=${build_info_type}"
          -P ${build_info_script}
  DEPENDS ${build_info_script} ${build_info_template} ${build_info_watch}
  COMMENT "Writing build_info.h" VERBATIM)
add_custom_target(sky_build_info_header DEPENDS ${build_info_folder}/build_info.h)
add_library(sky_build_info INTERFACE)
target_include_directories(sky_build_info INTERFACE ${build_info_folder})
add_dependencies(sky_build_info sky_build_info_header)
