/* What Python hands over, checked by the buffer protocol. */
#ifndef TELEPORT_ENV_ARGUMENTS_H
#define TELEPORT_ENV_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include "kernels.h"

/* The kernels of the instruction set there is; known from the module's import on. */
extern const Kernels *chosen;

/* The arrays that a call has borrowed; released together. */
#define MOST 24
typedef struct {
    Py_buffer views[MOST];
    int count;
} Borrowed;

void give_back(Borrowed *borrowed);

/* An array of one of some formats ("d": float64, "f": float32, "l": int64, "?": bool), NULL with an exception otherwise. */
Py_buffer *borrow(Borrowed *borrowed, PyObject *object, const char *name, const char *formats, int ndim, int writable);

/* A matrix of doubles; rows and columns as asked, -1: any. */
int matrix(Borrowed *borrowed, PyObject *object, const char *name, int64_t rows, int64_t columns, int writable, Matrix *out);

/* A vector of so many numbers of a format; -1: of any length. */
void *vector_of(Borrowed *borrowed, PyObject *object, const char *name, const char *format, int64_t length, int writable);

/* A vector of so many doubles. */
double *vector(Borrowed *borrowed, PyObject *object, const char *name, int64_t length, int writable);

/* Whether so many arguments came. */
int arguments(const char *name, Py_ssize_t given, Py_ssize_t wanted);

/* A line of a table of methods. */
#define METHOD(function, text) {#function, (PyCFunction)(void (*)(void))function, METH_FASTCALL, text}

#endif
