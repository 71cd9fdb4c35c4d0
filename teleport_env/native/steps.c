/* The functions of a step. */
#include "arguments.h"

/* Which runs wait, or NULL where the argument is None; 0 with an exception otherwise. */
static int waiting_runs(Borrowed *borrowed, PyObject *object, int64_t length, const uint8_t **out) {
    *out = NULL;
    return object == Py_None || (*out = vector_of(borrowed, object, "waiting", "?", length, 0)) != NULL;
}

static PyObject *descend(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    Matrix params, gradient;
    const double *rate;
    const uint8_t *waiting;
    PyObject *result = NULL;
    if (arguments("descend", count, 5) && matrix(&borrowed, args[0], "params", -1, -1, 1, &params) &&
        matrix(&borrowed, args[1], "gradient", params.rows, params.columns, 0, &gradient)) {
        int by_rows = PyObject_IsTrue(args[4]);
        int64_t runs = by_rows ? params.rows : params.columns;
        if ((rate = vector(&borrowed, args[2], "rate", runs, 0)) && waiting_runs(&borrowed, args[3], runs, &waiting)) {
            (by_rows ? chosen->descend_rows : chosen->descend)(&params, &gradient, rate, waiting);
            result = Py_NewRef(Py_None);
        }
    }
    give_back(&borrowed);
    return result;
}

static PyObject *book(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    Booking b = {.update = {NULL, 0, 0, 0}};
    Py_buffer *integers;
    PyObject *result = NULL;
    if (!arguments("book", count, 14)) return NULL;
    b.by_rows = PyObject_IsTrue(args[8]);
    b.price = PyFloat_AsDouble(args[11]);
    b.tiny = PyFloat_AsDouble(args[12]);
    b.huge = PyFloat_AsDouble(args[13]);
    if (PyErr_Occurred()) return NULL;
    if (matrix(&borrowed, args[0], "floats", FLOATS, -1, 1, &b.floats)) {
        const int64_t runs = b.floats.columns;
        const int64_t rows = b.by_rows ? runs : -1, columns = b.by_rows ? -1 : runs;
        const int any = args[7] != Py_None;
        if ((integers = borrow(&borrowed, args[1], "integers", "l", 2, 1)) &&
            (b.diverged = vector_of(&borrowed, args[2], "diverged", "?", runs, 1)) &&
            matrix(&borrowed, args[3], "accounts", 2, runs, 1, &b.accounts) &&
            (b.loss = vector(&borrowed, args[4], "loss", runs, 0)) &&
            matrix(&borrowed, args[5], "gradient", rows, columns, !b.by_rows, &b.gradient) &&
            matrix(&borrowed, args[6], "new_gradient", b.gradient.rows, b.gradient.columns, 0, &b.new_gradient) &&
            (!any || matrix(&borrowed, args[7], "update", b.gradient.rows, b.gradient.columns, 0, &b.update)) &&
            matrix(&borrowed, args[9], "logged", any ? 3 : 2, runs, 1, &b.logged) &&
            waiting_runs(&borrowed, args[10], runs, &b.waiting)) {
            if (integers->shape[0] != INTEGERS || integers->shape[1] != runs) {
                PyErr_Format(PyExc_ValueError, "integers has the shape (%zd, %zd), which does not fit", integers->shape[0], integers->shape[1]);
            } else {
                b.integers = integers->buf;
                b.integer_stride = integers->strides[0] / (int64_t)sizeof(int64_t);
                result = PyBool_FromLong(chosen->book(&b));
            }
        }
    }
    give_back(&borrowed);
    return result;
}

static PyObject *close_step(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    Matrix floats, logs;
    const uint8_t *waiting;
    PyObject *result = NULL;
    if (arguments("close_step", count, 3) && matrix(&borrowed, args[0], "floats", FLOATS, -1, 1, &floats) &&
        matrix(&borrowed, args[1], "logs", -1, floats.columns, 0, &logs) && waiting_runs(&borrowed, args[2], floats.columns, &waiting)) {
        if (logs.rows > 3) {
            PyErr_Format(PyExc_ValueError, "logs has %lld rows, 3 are the most", (long long)logs.rows);
        } else {
            chosen->close(&floats, &logs, waiting);
            result = Py_NewRef(Py_None);
        }
    }
    give_back(&borrowed);
    return result;
}

PyMethodDef step_methods[] = {
    METHOD(descend, "descend(params, gradient, rate, waiting, by_rows): params -= rate * gradient"),
    METHOD(book,
           "book(floats, integers, diverged, accounts, loss, gradient, new_gradient, update, by_rows, logged, waiting, price, tiny, "
           "huge): book a step; whether all runs are sane"),
    METHOD(close_step, "close_step(floats, logs, waiting): the decreases of loss and gradient norm, from decimal logarithms"),
    {NULL, NULL, 0, NULL},
};
