/* Tensors of torch, read and made through its C functions for exchange (DLPack), at a tenth of the time of a NumPy view. */
#ifndef TELEPORT_ENV_TENSORS_H
#define TELEPORT_ENV_TENSORS_H

#include "arguments.h"

/* Whether an object is a plain tensor of float64 on the CPU with one to three dimensions; then its view.

False, without an exception, for all else: parameters and other subclasses, what stands for a tensor while torch.func
traces, other precisions and devices, and whatever there is where torch is too old to have the functions. */
int view_tensor(PyObject *object, Array *view);

/* The same of a tensor of int64 with so many dimensions: its numbers, its shape and its strides. */
int view_integers(PyObject *object, const int64_t **numbers, int ndim, int64_t *shape, int64_t *stride);

/* The numbers of a dense tensor on the CPU with so many entries, of 64 or 32 bits, in the order of a row-major array; NULL, without
an exception, for all else. */
void *dense_numbers(PyObject *object, int bits, int64_t entries);

/* A new tensor (runs,), or (runs, entries), with runs side by side if `columns`, else entries; NULL with an exception. */
PyObject *new_tensor(int64_t runs, int64_t entries, int columns, Array *view);

#endif
