/* Tensors of torch, read and made through its C functions for exchange (DLPack), at a tenth of the time of a NumPy view. */
#ifndef TELEPORT_ENV_TENSORS_H
#define TELEPORT_ENV_TENSORS_H

#include "arguments.h"

/* Whether torch does no more with tensors than to compute with their numbers: no mode sees its calls, no function is
transformed or traced, and no tensor carries a tangent. Asked once per call, before tensors are read; false where torch is too
old to say so. */
int only_numbers_count(void);

/* Whether an object is a plain tensor of float64 on the CPU with one to three dimensions; then its view.

False, without an exception, for all else: parameters and other subclasses, other precisions and devices, views of the
negatives of what lies in memory, and whatever there is where torch is too old to have the functions. */
int view_tensor(PyObject *object, Array *view);

/* The same of a tensor of int64 with so many dimensions: its numbers, its shape and its strides. */
int view_integers(PyObject *object, const int64_t **numbers, int ndim, int64_t *shape, int64_t *stride);

/* The numbers of a dense tensor on the CPU with so many entries, of 64 or 32 bits, in the order of a row-major array; NULL, without
an exception, for all else. */
void *dense_numbers(PyObject *object, int bits, int64_t entries);

/* A new tensor (runs,), or (runs, entries), with runs side by side if `columns`, else entries; NULL with an exception. */
PyObject *new_tensor(int64_t runs, int64_t entries, int columns, Array *view);

/* What a function returns that does not serve: None, or NULL where there is an exception. */
PyObject *refuse(void);

/* A network from what Python packed: int64 bias and widths, then slope and scale; 0 with an exception. */
int read_network(PyObject *packed, Network *net);

/* Memory for a tile of so many vectors, aligned to one and kept from call to call, which the interpreter's lock guards; NULL with
an exception. */
double *tile_memory(int64_t vectors);

#endif
