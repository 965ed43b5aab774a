// Included before every C++ file of llama.cpp (build.sh). GCC's _tile_loadconfig
// (amxtileintrin.h, seen in 12.2) tells the compiler that ldtilecfg reads 8 bytes, so
// the stores of the other 56 are dropped as dead: the tiles get no rows, and the
// first AMX instruction ends the process with SIGILL. This one says that 64 are read.
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%0" : : "m"(*(const unsigned char (*)[64])(config)))
#endif
