# libjpeg-turbo without its assembler routines, for machines without nasm or yasm (see images.sh).
set(WITH_SIMD FALSE CACHE BOOL "" FORCE)
