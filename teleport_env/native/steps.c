/* The functions of a step of descent. */
#include "arguments.h"

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

PyMethodDef step_methods[] = {
    METHOD(descend, "descend(params, gradient, rate): params -= rate * gradient"),
    {NULL, NULL, 0, NULL},
};
