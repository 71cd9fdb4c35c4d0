/* What the kernels have in common.

Every kernel works on runs side by side: lane i of a vector is run i, and what is done to a run is the same operations in the
same order whatever its neighbours are. So a run's bits depend neither on how many runs there are nor on the width of the
vectors. Contractions to fused multiply-adds are off (see pyproject.toml), so that elementwise kernels have the bits of NumPy
and torch.

The bodies (*.inc) are compiled once per instruction set, by the files variant_*.c, under the name KERNEL(name).
*/
#ifndef TELEPORT_ENV_KERNELS_H
#define TELEPORT_ENV_KERNELS_H

#include <math.h>
#include <stdint.h>

/* A matrix of doubles whose rows are contiguous: row r begins at data + r * stride. */
typedef struct {
    double *data;
    int64_t stride;
    int64_t rows;
    int64_t columns;
} Matrix;

/* The kernels of one instruction set. */
typedef struct {
    const char *name;
    void (*descend)(const Matrix *params, const Matrix *gradient, const double *rate);
} Kernels;

#endif
