#include "kernels.h"
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("arch=skylake-avx512,prefer-vector-width=512")
#define KERNEL(name) name##_avx512
#define VARIANT "avx512"
#include "bodies.inc"
#endif
