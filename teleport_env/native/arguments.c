#include "arguments.h"

#include <string.h>

void give_back(Borrowed *borrowed) {
    while (borrowed->count) PyBuffer_Release(&borrowed->views[--borrowed->count]);
}

Py_buffer *borrow(Borrowed *borrowed, PyObject *object, const char *name, const char *formats, int ndim, int writable) {
    Py_buffer *view = &borrowed->views[borrowed->count];
    if (borrowed->count == MOST) {
        PyErr_SetString(PyExc_SystemError, "too many arrays for one kernel");
        return NULL;
    }
    if (PyObject_GetBuffer(object, view, PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0) return NULL;
    borrowed->count++;
    /* one letter and no more: a prefix is of another order of bytes or of numbers that are not aligned */
    const char letter = *view->format == 'q' ? 'l' : *view->format;
    if (!letter || view->format[1] || !strchr(formats, letter) || (letter == 'l' && view->itemsize != 8)) {
        PyErr_Format(PyExc_TypeError, "%s must have one of the formats '%s', got '%s'", name, formats, view->format);
        return NULL;
    }
    if (view->ndim != ndim || (ndim && view->shape[ndim - 1] > 1 && view->strides[ndim - 1] != view->itemsize)) {
        PyErr_Format(PyExc_ValueError, "%s must have %d dimensions, the last of them contiguous; it has %d", name, ndim, view->ndim);
        return NULL;
    }
    return view;
}

int matrix(Borrowed *borrowed, PyObject *object, const char *name, int64_t rows, int64_t columns, int writable, Matrix *out) {
    Py_buffer *view = borrow(borrowed, object, name, "d", 2, writable);
    if (!view) return 0;
    if ((rows >= 0 && view->shape[0] != rows) || (columns >= 0 && view->shape[1] != columns)) {
        PyErr_Format(PyExc_ValueError, "%s has the shape (%zd, %zd), which does not fit", name, view->shape[0], view->shape[1]);
        return 0;
    }
    *out = (Matrix){view->buf, view->strides[0] / (int64_t)sizeof(double), view->shape[0], view->shape[1]};
    return 1;
}

void *vector_of(Borrowed *borrowed, PyObject *object, const char *name, const char *format, int64_t length, int writable) {
    Py_buffer *view = borrow(borrowed, object, name, format, 1, writable);
    if (!view) return NULL;
    if (length >= 0 && view->shape[0] != length) {
        PyErr_Format(PyExc_ValueError, "%s must have %lld entries, it has %zd", name, (long long)length, view->shape[0]);
        return NULL;
    }
    return view->buf;
}

double *vector(Borrowed *borrowed, PyObject *object, const char *name, int64_t length, int writable) {
    return vector_of(borrowed, object, name, "d", length, writable);
}

int arguments(const char *name, Py_ssize_t given, Py_ssize_t wanted) {
    if (given == wanted) return 1;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, got %zd", name, wanted, given);
    return 0;
}
