# What this build has; ./launch/build shows these lines.
set(sky_video "no: FFmpeg's libraries were not found, .y4m and .png output only")
if(FFMPEG_FOUND)
  set(sky_video "yes (libavformat ${FFMPEG_libavformat_VERSION})")
endif()
message(STATUS "skyreels: ${PROJECT_VERSION}, ${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}, ${build_info_type}")
message(STATUS "skyreels: backend      ${SKY_CUDA_SUMMARY}")
message(STATUS "skyreels: mp4          ${sky_video}")
message(STATUS "skyreels: hdf5         ${HDF5_VERSION}")
