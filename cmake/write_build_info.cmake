# Run by the build (SkyBuildInfo.cmake): fills build_info.h.in; configure_file leaves an unchanged file alone.
set(COMMIT "")
if(GIT)
  execute_process(COMMAND ${GIT} -c safe.directory=${SOURCE} rev-parse --short=12 HEAD WORKING_DIRECTORY ${SOURCE}
                  OUTPUT_VARIABLE COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT COMMIT)
  set(COMMIT "unknown")
endif()
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
