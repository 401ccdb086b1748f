# Builds libjpeg-turbo without SIMD, for machines without nasm or yasm (see images.sh).
set(WITH_SIMD FALSE CACHE BOOL "" FORCE)
