/* The module teleport_env.native._kernels: checks what Python hands over and calls the kernels. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

#include "kernels.h"

extern const Kernels kernels_plain;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

static const Kernels *chosen = &kernels_plain;

static void choose(void) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd"))
        chosen = &kernels_avx512;
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        chosen = &kernels_avx2;
#endif
}

/* -- arguments ----------------------------------------------------------------------------------------------------- */

/* The arrays that a call has borrowed; released together. */
#define MOST 24
typedef struct {
    Py_buffer views[MOST];
    int count;
} Borrowed;

static void give_back(Borrowed *borrowed) {
    while (borrowed->count) PyBuffer_Release(&borrowed->views[--borrowed->count]);
}

/* An array of a format ("d": float64, "f": float32, "l": int64, "?": bool), NULL with an exception otherwise. */
static Py_buffer *borrow(Borrowed *borrowed, PyObject *object, const char *name, const char *format, int ndim, int writable) {
    Py_buffer *view = &borrowed->views[borrowed->count];
    if (borrowed->count == MOST) {
        PyErr_SetString(PyExc_SystemError, "too many arrays for one kernel");
        return NULL;
    }
    if (PyObject_GetBuffer(object, view, PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0) return NULL;
    borrowed->count++;
    int integer = *format == 'l' && (!strcmp(view->format, "l") || !strcmp(view->format, "q")) && view->itemsize == 8;
    if (!integer && strcmp(view->format, format)) {
        PyErr_Format(PyExc_TypeError, "%s must have the format '%s', got '%s'", name, format, view->format);
        return NULL;
    }
    if (view->ndim != ndim || (ndim && view->shape[ndim - 1] > 1 && view->strides[ndim - 1] != view->itemsize)) {
        PyErr_Format(PyExc_ValueError, "%s must have %d dimensions, the last of them contiguous; it has %d", name, ndim, view->ndim);
        return NULL;
    }
    return view;
}

/* A matrix of doubles; rows and columns as asked, -1: any. */
static int matrix(Borrowed *borrowed, PyObject *object, const char *name, int64_t rows, int64_t columns, int writable, Matrix *out) {
    Py_buffer *view = borrow(borrowed, object, name, "d", 2, writable);
    if (!view) return 0;
    if ((rows >= 0 && view->shape[0] != rows) || (columns >= 0 && view->shape[1] != columns)) {
        PyErr_Format(PyExc_ValueError, "%s has the shape (%zd, %zd), which does not fit", name, view->shape[0], view->shape[1]);
        return 0;
    }
    *out = (Matrix){view->buf, view->strides[0] / (int64_t)sizeof(double), view->shape[0], view->shape[1]};
    return 1;
}

/* A vector of so many doubles. */
static double *vector(Borrowed *borrowed, PyObject *object, const char *name, int64_t length, int writable) {
    Py_buffer *view = borrow(borrowed, object, name, "d", 1, writable);
    if (!view) return NULL;
    if (view->shape[0] != length) {
        PyErr_Format(PyExc_ValueError, "%s must have %lld entries, it has %zd", name, (long long)length, view->shape[0]);
        return NULL;
    }
    return view->buf;
}

static int arguments(const char *name, Py_ssize_t given, Py_ssize_t wanted) {
    if (given == wanted) return 1;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, got %zd", name, wanted, given);
    return 0;
}

/* -- functions ----------------------------------------------------------------------------------------------------- */

static PyObject *descend(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    Matrix params, gradient;
    const double *rate;
    PyObject *result = NULL;
    if (arguments("descend", count, 3) && matrix(&borrowed, args[0], "params", -1, -1, 1, &params) &&
        matrix(&borrowed, args[1], "gradient", params.rows, params.columns, 0, &gradient) &&
        (rate = vector(&borrowed, args[2], "rate", params.columns, 0))) {
        chosen->descend(&params, &gradient, rate);
        result = Py_NewRef(Py_None);
    }
    give_back(&borrowed);
    return result;
}

static PyMethodDef methods[] = {
    {"descend", (PyCFunction)(void (*)(void))descend, METH_FASTCALL, "descend(params, gradient, rate): params -= rate * gradient"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) {
    choose();
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddStringConstant(module, "variant", chosen->name) < 0) Py_CLEAR(module);
    return module;
}
