// What the headers of a new GCC and glibc refer to, and old ones do not have. Linked into the released programs only.

#include <ios>
#include <new>

#define HIDDEN __attribute__((visibility("hidden")))

// glibc 2.32: whether the process has one thread, so that reference counts need no atomic instructions. Never true here.
extern "C" HIDDEN char __libc_single_threaded;
char __libc_single_threaded = 0;

// libstdc++ of GCC 9: the constructor of std::ostringstream without arguments. GCC 8 has the one with the mode.
extern "C" void with_mode(void *stream, std::ios_base::openmode mode) __asm__(
    "_ZNSt7__cxx1119basic_ostringstreamIcSt11char_traitsIcESaIcEEC1ESt13_Ios_Openmode");
extern "C" HIDDEN void without_mode(void *stream) __asm__(
    "_ZNSt7__cxx1119basic_ostringstreamIcSt11char_traitsIcESaIcEEC1Ev");

void without_mode(void *stream) { with_mode(stream, std::ios_base::out); }

// libstdc++ of GCC 11: what std::vector calls for a size that no memory has.
extern "C" [[noreturn]] HIDDEN void throw_bad_array_new_length() __asm__("_ZSt28__throw_bad_array_new_lengthv");

void throw_bad_array_new_length() { throw std::bad_array_new_length(); }
