/* Searches over the general linear group on a chain of layers: functions of tensors.

Each is called as f(params, gradient, packed, ...), with the chain packed like a network. The result is None where the kernels do not
serve. */
#include "tensors.h"

static PyObject *refuse(void) { return PyErr_Occurred() ? NULL : Py_NewRef(Py_None); }

/* Whether everything is a tensor that a kernel can read. */
static int begin(Chain *chain, PyObject *const *args) {
    *chain = (Chain){.squares = 0};
    Network *net = &chain->net;
    Array *params = &chain->params, *gradient = &chain->gradient;
    if (!read_network(args[2], net) || net->bias || net->layers < 2 || net->parameters > LARGEST_CHAIN) return 0;
    for (int64_t l = 1; l < net->layers; l++) {
        if (net->widths[l] > LARGEST_BALANCE) return 0;
        chain->squares += net->widths[l] * net->widths[l];
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

static PyObject *chain_ascend(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Chain chain;
    Array lengths;
    if (!arguments("chain_ascend", count, 7)) return NULL;
    if (!begin(&chain, args) || !view_tensor(args[3], &lengths) || lengths.ndim != 1 || lengths.stride[0] != 1) return refuse();
    chain.lengths = lengths.data;
    chain.steps = lengths.shape[0];
    chain.trust = PyFloat_AsDouble(args[4]);
    chain.shrink = PyFloat_AsDouble(args[5]);
    chain.sign = PyFloat_AsDouble(args[6]);
    return PyErr_Occurred() || chain.steps < 1 ? refuse() : found_by(&chain, chosen->chain_ascend);
}

static PyObject *chain_balance(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Chain chain;
    if (!arguments("chain_balance", count, 6)) return NULL;
    if (!begin(&chain, args)) return refuse();
    chain.on_weights = PyObject_IsTrue(args[3]);
    chain.steps = PyLong_AsLongLong(args[4]);
    chain.trust = PyFloat_AsDouble(args[5]);
    return PyErr_Occurred() || chain.steps < 1 ? refuse() : found_by(&chain, chosen->chain_balance);
}

PyMethodDef chain_methods[] = {
    METHOD(chain_ascend, "chain_ascend(params, gradient, packed, lengths, trust, shrink, sign): params, gradient, score, start_score, elements"),
    METHOD(chain_balance, "chain_balance(params, gradient, packed, on_weights, sweeps, most): params, gradient, score, start_score, elements"),
    {NULL, NULL, 0, NULL},
};
