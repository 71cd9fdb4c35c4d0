/* Factors of hidden units, found and applied in the tensors of a model: see units.inc.

Tensors come as tuples, in the order of the layout, None where there is none. Where one is not dense, of float64 or float32
like the others and on the CPU, the result is None, and nothing has been written. */
#include "tensors.h"

#include <stdlib.h>

/* A layout, unpacked. */
typedef struct {
    Borrowed borrowed;
    Units units;
    int64_t entries; /* slots of a table */
} Layout;

static void let_go(Layout *layout) {
    free((void *)layout->units.tensor);
    give_back(&layout->borrowed);
}

/* args: shapes (T, 2), slots of the rows and columns of each tensor, touched (T, 2, C), ends (C,), memory. */
static int read_layout(Layout *layout, PyObject *const *args) {
    *layout = (Layout){.borrowed = {.count = 0}};
    Units *u = &layout->units;
    Borrowed *borrowed = &layout->borrowed;
    Py_buffer *shapes = borrow(borrowed, args[0], "shapes", "l", 2, 0);
    if (!shapes) return 0;
    u->tensors = shapes->shape[0];
    const int64_t *shape = shapes->buf, *slots = vector_of(borrowed, args[1], "slots", "l", -1, 0);
    if (!slots) return 0;
    int64_t count = borrowed->views[borrowed->count - 1].shape[0], needed = 0, widest = 0;
    if (!(u->ends = vector_of(borrowed, args[3], "ends", "l", -1, 0))) return 0;
    u->couplings = borrowed->views[borrowed->count - 1].shape[0];
    const uint8_t *touched = vector_of(borrowed, args[2], "touched", "?", 2 * u->tensors * u->couplings, 0);
    if (!touched || !(u->memory = vector(borrowed, args[4], "memory", -1, 1))) return 0;
    const int64_t room = borrowed->views[borrowed->count - 1].shape[0];
    int fits = shapes->shape[1] == 2 && u->couplings > 0 && (u->tensors < 2 || shapes->strides[0] == 2 * (int64_t)sizeof(int64_t));
    for (int64_t c = 0; fits && c < u->couplings; c++) fits = u->ends[c] >= (c ? u->ends[c - 1] : 0);
    for (int64_t k = 0; fits && k < u->tensors; k++) {
        fits = shape[2 * k] > 0 && shape[2 * k + 1] > 0;
        needed += shape[2 * k] + shape[2 * k + 1];
        widest = shape[2 * k + 1] > widest ? shape[2 * k + 1] : widest;
    }
    u->units = fits ? u->ends[u->couplings - 1] : 0;
    layout->entries = 1 + 2 * u->units;
    for (int64_t i = 0; fits && i < count; i++) fits = slots[i] >= 0 && slots[i] < layout->entries;
    if (!fits || needed != count || room < 3 * layout->entries + widest) {
        PyErr_SetString(PyExc_ValueError, "the layout of the units does not fit");
        return 0;
    }
    u->scratch = u->memory + 3 * layout->entries;
    UnitTensor *tensor = calloc((size_t)u->tensors + 1, sizeof *tensor);
    if (!tensor) return PyErr_NoMemory(), 0;
    u->tensor = tensor;
    for (int64_t k = 0; k < u->tensors; k++) {
        UnitTensor *t = &tensor[k];
        *t = (UnitTensor){.count = shape[2 * k], .width = shape[2 * k + 1], .rows = slots, .columns = slots + shape[2 * k]};
        slots = t->columns + t->width;
        t->row_couplings = touched + 2 * k * u->couplings;
        t->column_couplings = t->row_couplings + u->couplings;
        for (int64_t c = 0; c < u->couplings; c++) {
            t->has_rows |= t->row_couplings[c];
            t->has_columns |= t->column_couplings[c];
        }
    }
    return 1;
}

/* Where the numbers of tensors lie, NULL for None; `bits`: of their numbers, 0: not yet known. Caller frees. */
static void **addresses(const Units *u, PyObject *tuple, int *bits) {
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != (Py_ssize_t)u->tensors) {
        PyErr_SetString(PyExc_ValueError, "there must be a tuple with one tensor or None for each of the layout");
        return NULL;
    }
    if (!only_numbers_count()) return NULL;
    void **found = calloc((size_t)u->tensors + 1, sizeof *found);
    if (!found) return (void **)PyErr_NoMemory();
    for (int64_t k = 0; k < u->tensors; k++) {
        PyObject *object = PyTuple_GetItem(tuple, (Py_ssize_t)k);
        const int64_t entries = u->tensor[k].count * u->tensor[k].width;
        if (object == Py_None) continue;
        if (!*bits) *bits = dense_numbers(object, 64, entries) ? 64 : 32;
        if (!(found[k] = dense_numbers(object, *bits, entries))) {
            free(found);
            return NULL;
        }
    }
    return found;
}

static PyObject *find_units(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Layout layout;
    UnitSearch s;
    PyObject *result = NULL;
    if (!arguments("find_units", count, 14)) return NULL;
    const long objective = PyLong_AsLong(args[7]);
    s = (UnitSearch){.objective = (int)objective, .on_weights = PyObject_IsTrue(args[8]), .sweeps = PyLong_AsLong(args[9])};
    if (!PyErr_Occurred() && objective != BALANCE && objective != LARGEST && objective != RELATIVE)
        PyErr_Format(PyExc_ValueError, "objective must be %d, %d or %d, got %ld", BALANCE, LARGEST, RELATIVE, objective);
    if (PyErr_Occurred()) return NULL;
    s.most = exp(2.0 * PyFloat_AsDouble(args[10]));
    s.tiny = PyFloat_AsDouble(args[11]);
    if (PyErr_Occurred()) return NULL;
    if (read_layout(&layout, args) && (s.table = vector(&layout.borrowed, args[12], "table", layout.entries, 1)) &&
        (s.squares = vector(&layout.borrowed, args[13], "squares", 4, 1))) {
        int bits = 0;
        void **params = addresses(&layout.units, args[5], &bits), **gradients = params ? addresses(&layout.units, args[6], &bits) : NULL;
        if (gradients) {
            s.params = params;
            s.gradients = gradients;
            chosen->find_units[bits == 32](&layout.units, &s);
            result = Py_NewRef(Py_True);
        } else if (!PyErr_Occurred()) {
            result = Py_NewRef(Py_None);
        }
        free(params);
        free(gradients);
    }
    let_go(&layout);
    return result;
}

static PyObject *scale_units(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Layout layout;
    const double *table;
    PyObject *result = NULL;
    if (!arguments("scale_units", count, 8)) return NULL;
    const long power = PyLong_AsLong(args[7]);
    if (PyErr_Occurred()) return NULL;
    if (power < -2 || power > 2 || !power) {
        PyErr_Format(PyExc_ValueError, "power must be 1, -1, 2 or -2, got %ld", power);
        return NULL;
    }
    if (read_layout(&layout, args) && (table = vector(&layout.borrowed, args[6], "table", layout.entries, 0))) {
        int bits = 0;
        void **tensors = addresses(&layout.units, args[5], &bits);
        if (tensors) {
            chosen->scale_units[bits == 32](&layout.units, tensors, table, (int)power);
            result = Py_NewRef(Py_True);
        } else if (!PyErr_Occurred()) {
            result = Py_NewRef(Py_None);
        }
        free(tensors);
    }
    let_go(&layout);
    return result;
}

PyMethodDef unit_methods[] = {
    METHOD(find_units, "find_units(shapes, slots, touched, ends, memory, params, gradients, objective, on_weights, sweeps, radius, tiny, table, squares)"),
    METHOD(scale_units, "scale_units(shapes, slots, touched, ends, memory, tensors, table, power)"),
    {NULL, NULL, 0, NULL},
};
