/* Searches over the general linear group on a chain of layers, and over positive scalings of hidden units: functions of tensors.

Each is called as f(params, gradient, packed, ...), with the chain packed like a network. The result is None where the kernels do not
serve. */
#include "tensors.h"

/* Whether everything is a tensor that a kernel can read; elements are matrices, or else factors. */
static int begin(Chain *chain, PyObject *const *args, int matrices) {
    *chain = (Chain){.squares = 0};
    Network *net = &chain->net;
    Array *params = &chain->params, *gradient = &chain->gradient;
    if (!read_network(args[2], net) || (matrices && net->bias) || net->layers < 2 || net->parameters > LARGEST_CHAIN) return 0;
    for (int64_t l = 1; l < net->layers; l++) {
        if (matrices && net->widths[l] > LARGEST_BALANCE) return 0;
        chain->squares += matrices ? net->widths[l] * net->widths[l] : net->widths[l];
    }
    if (!only_numbers_count() || !view_tensor(args[0], params) || !view_tensor(args[1], gradient)) return 0;
    return params->ndim == 2 && gradient->ndim == 2 && params->shape[0] > 0 && gradient->shape[0] == params->shape[0] &&
           params->shape[1] == net->parameters && gradient->shape[1] == net->parameters;
}

/* (params, gradient, score, start_score, elements). */
static PyObject *found_by(const Chain *chain, ChainKernel *kernel) {
    const int64_t runs = chain->params.shape[0], n = chain->net.parameters;
    const int64_t entries[] = {n, n, 0, 0, chain->squares};
    double *memory = tile_memory(4 * n + 9 * chain->squares);
    PyObject *result = memory ? PyTuple_New(5) : NULL;
    Array views[5];
    for (int i = 0; result && i < 5; i++) {
        PyObject *made = new_tensor(runs, entries[i], 0, &views[i]);
        if (!made || PyTuple_SetItem(result, i, made) < 0) Py_CLEAR(result);
    }
    if (!result) return NULL;
    const Chained found = {views[0], views[1], views[4], views[2].data, views[3].data};
    kernel(chain, &found, memory);
    return result;
}

static PyObject *ascend(PyObject *const *args, Py_ssize_t count, int matrices) {
    Chain chain;
    Array lengths;
    if (!arguments("ascend", count, 7)) return NULL;
    if (!begin(&chain, args, matrices) || !view_tensor(args[3], &lengths) || lengths.ndim != 1 || lengths.stride[0] != 1) return refuse();
    chain.lengths = lengths.data;
    chain.steps = lengths.shape[0];
    chain.trust = PyFloat_AsDouble(args[4]);
    chain.shrink = PyFloat_AsDouble(args[5]);
    chain.sign = PyFloat_AsDouble(args[6]);
    if (PyErr_Occurred() || chain.steps < 1) return refuse();
    return found_by(&chain, matrices ? chosen->chain_ascend : chosen->scaling_ascend);
}

static PyObject *settle(PyObject *const *args, Py_ssize_t count, int matrices) {
    Chain chain;
    if (!arguments("settle", count, 7)) return NULL;
    if (!begin(&chain, args, matrices)) return refuse();
    chain.objective = (int)PyLong_AsLong(args[3]);
    chain.on_weights = PyObject_IsTrue(args[4]);
    chain.steps = PyLong_AsLongLong(args[5]);
    chain.trust = PyFloat_AsDouble(args[6]);
    chain.sign = chain.objective == BALANCE ? -1.0 : 1.0;
    if (!PyErr_Occurred() && chain.objective != BALANCE && chain.objective != LARGEST && chain.objective != RELATIVE)
        PyErr_Format(PyExc_ValueError, "objective must be %d, %d or %d, got %d", BALANCE, LARGEST, RELATIVE, chain.objective);
    if (PyErr_Occurred() || chain.steps < 1 || (matrices && chain.objective != BALANCE)) return refuse();
    return found_by(&chain, matrices ? chosen->chain_balance : chosen->scaling_settle);
}

static PyObject *chain_ascend(PyObject *module, PyObject *const *args, Py_ssize_t count) { return ascend(args, count, 1); }
static PyObject *scaling_ascend(PyObject *module, PyObject *const *args, Py_ssize_t count) { return ascend(args, count, 0); }
static PyObject *chain_settle(PyObject *module, PyObject *const *args, Py_ssize_t count) { return settle(args, count, 1); }
static PyObject *scaling_settle(PyObject *module, PyObject *const *args, Py_ssize_t count) { return settle(args, count, 0); }

#define FOUND ": params, gradient, score, start_score, elements"
PyMethodDef chain_methods[] = {
    METHOD(chain_ascend, "chain_ascend(params, gradient, packed, lengths, trust, shrink, sign)" FOUND),
    METHOD(scaling_ascend, "scaling_ascend(params, gradient, packed, lengths, trust, shrink, sign)" FOUND),
    METHOD(chain_settle, "chain_settle(params, gradient, packed, objective, on_weights, sweeps, most)" FOUND),
    METHOD(scaling_settle, "scaling_settle(params, gradient, packed, objective, on_weights, sweeps, most)" FOUND),
    {NULL, NULL, 0, NULL},
};
