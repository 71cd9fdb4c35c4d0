#include "kernels.h"
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("arch=haswell")
#define KERNEL(name) name##_avx2
#define VARIANT "avx2"
#include "bodies.inc"
#endif
