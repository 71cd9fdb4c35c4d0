#include "kernels.h"
#define KERNEL(name) name##_plain
#define VARIANT "plain"
#include "bodies.inc"
