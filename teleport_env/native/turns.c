/* Searches over rotations of coordinates: functions of tensors.

Each is called as f(kind, params, gradient, ..., data...), with a problem's kind and its own data. The result is None where the
kernels do not serve. */
#include "tensors.h"

/* A run after the other, with too little in each to fill wide vectors: compiled once, for all instruction sets. */
#define KERNEL(name) name##_by_runs
#include "turns.inc"

static const char *const kinds[] = {"rosenbrock", "ellipse", "booth", "quadratic"};
static const int data_of[] = {1, 1, 2, 3};

typedef struct {
    Turns turns;
    Array data[3];
    int kind;
} Call;

/* A vector of a number per run. */
static const double *numbers(PyObject *object, int64_t runs) {
    Array view;
    return view_tensor(object, &view) && view.ndim == 1 && view.shape[0] == runs && (view.stride[0] == 1 || runs == 1) ? view.data : NULL;
}

/* Whether everything is a tensor that a kernel can read; `before` arguments come before the problem's data. */
static int begin(Call *call, const char *name, PyObject *const *args, Py_ssize_t count, int before) {
    *call = (Call){.kind = -1};
    for (int kind = 0; kind < 4 && count > 0; kind++)
        if (PyUnicode_Check(args[0]) && !PyUnicode_CompareWithASCIIString(args[0], kinds[kind])) call->kind = kind;
    if (call->kind < 0) {
        PyErr_Format(PyExc_ValueError, "%s knows no such coordinates", name);
        return 0;
    }
    if (!arguments(name, count, before + data_of[call->kind])) return 0;
    Array *params = &call->turns.params, *gradient = &call->turns.gradient, *data = call->data;
    if (!only_numbers_count() || !view_tensor(args[1], params) || !view_tensor(args[2], gradient) || params->ndim != 2 || gradient->ndim != 2) return 0;
    const int64_t runs = params->shape[0], n = params->shape[1];
    if (runs < 1 || n < 2 || n > LARGEST_QUADRATIC || gradient->shape[0] != runs || gradient->shape[1] != n) return 0;
    for (int i = 0; i < data_of[call->kind]; i++)
        if (!view_tensor(args[before + i], &data[i]) || data[i].shape[0] != runs) return 0;
    if (call->kind == ROSENBROCK) {
        if (data->ndim == 1) *data = (Array){data->data, {runs, 1, 0}, {data->stride[0], 0, 0}, 2};
        return data->ndim == 2 && n == 2 * data->shape[1];
    }
    if (call->kind == ELLIPSE) return n == 2 && data->ndim == 2 && data->shape[1] == 2;
    if (call->kind == BOOTH)
        return n == 2 && data->ndim == 3 && data->shape[1] == 2 && data->shape[2] == 2 && data[1].ndim == 2 && data[1].shape[1] == 2;
    for (int i = 0; i < 2; i++)
        if (data[i].ndim != 3 || data[i].shape[1] != n || data[i].shape[2] != n || data[i].stride[1] != n || data[i].stride[2] != 1) return 0;
    return data[2].ndim == 2 && data[2].shape[1] == n;
}

/* Numbers of the search, and where the runs stand. */
static int settle(Call *call, PyObject *loss, PyObject *scale, PyObject *sign, PyObject *relative, PyObject *rounding) {
    Turns *turns = &call->turns;
    const int64_t runs = turns->params.shape[0];
    turns->loss = numbers(loss, runs);
    turns->scale = numbers(scale, runs);
    turns->sign = PyFloat_AsDouble(sign);
    turns->relative = PyFloat_AsDouble(relative);
    turns->rounding = PyFloat_AsDouble(rounding);
    return turns->loss && turns->scale && !PyErr_Occurred();
}

/* (params, loss, gradient, score, start_score) as the kernel finds them. */
static PyObject *found_by(Call *call, TurnKernel *kernel) {
    const int64_t runs = call->turns.params.shape[0], n = call->turns.params.shape[1];
    Found found;
    Array views[5];
    PyObject *result = PyTuple_New(5);
    for (int i = 0; result && i < 5; i++) {
        PyObject *made = new_tensor(runs, i == 0 || i == 2 ? n : 0, 0, &views[i]);
        if (!made || PyTuple_SetItem(result, i, made) < 0) Py_CLEAR(result);
    }
    if (!result) return NULL;
    found = (Found){views[0], views[2], views[1].data, views[3].data, views[4].data};
    kernel(call->kind, &call->turns, call->data, &found);
    return result;
}

static PyObject *turn_direction(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    if (!begin(&call, "turn_direction", args, count, 3)) return refuse();
    const int64_t n = call.turns.params.shape[1];
    Found found;
    PyObject *made = new_tensor(call.turns.params.shape[0], n == 2 ? 1 : n, 0, &found.params);
    if (made) KERNEL(directions)(call.kind, &call.turns, call.data, &found);
    return made;
}

static PyObject *turn_ascend(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    Array lengths;
    if (!begin(&call, "turn_ascend", args, count, 11)) return refuse();
    if (!settle(&call, args[3], args[4], args[8], args[9], args[10]) || !view_tensor(args[5], &lengths) || lengths.ndim != 1) return refuse();
    call.turns.lengths = lengths.data;
    call.turns.steps = lengths.shape[0];
    call.turns.trust = PyFloat_AsDouble(args[6]);
    call.turns.shrink = PyFloat_AsDouble(args[7]);
    return PyErr_Occurred() ? NULL : found_by(&call, KERNEL(ascend));
}

static PyObject *turn_choose(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    if (!begin(&call, "turn_choose", args, count, 12)) return refuse();
    Turns *turns = &call.turns;
    const int64_t runs = turns->params.shape[0], n = turns->params.shape[1];
    if (!settle(&call, args[3], args[4], args[9], args[10], args[11])) return refuse();
    if (args[5] != Py_None && !(turns->rate = numbers(args[5], runs))) return refuse();
    Array *three[] = {&turns->angles, &turns->cosine, &turns->sine};
    for (int i = 0; i < (n == 2 ? 3 : 1); i++) {
        if (!view_tensor(args[6 + i], three[i]) || three[i]->ndim != 3) return refuse();
        if (three[i]->shape[0] != runs || three[i]->shape[1] != turns->angles.shape[1] || three[i]->shape[2] != (n == 2 ? 1 : n))
            return refuse();
    }
    return turns->angles.shape[1] ? found_by(&call, KERNEL(choose)) : refuse();
}

/* The choice along the direction of ascent: of the lengths of `reach` (K,), with their cosines and sines. */
static PyObject *turn_ahead(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    if (!begin(&call, "turn_ahead", args, count, 12)) return refuse();
    Turns *turns = &call.turns;
    Array three[3];
    if (!settle(&call, args[3], args[4], args[9], args[10], args[11])) return refuse();
    if (!(turns->rate = numbers(args[5], turns->params.shape[0]))) return refuse();
    for (int i = 0; i < 3; i++)
        if (!view_tensor(args[6 + i], &three[i]) || three[i].ndim != 1 || three[i].shape[0] != three[0].shape[0] || three[i].stride[0] != 1)
            return refuse();
    turns->reaches = three[0].shape[0];
    turns->reach = three[0].data;
    turns->reach_cosine = three[1].data;
    turns->reach_sine = three[2].data;
    return turns->reaches ? found_by(&call, KERNEL(choose)) : refuse();
}

/* Random vectors (R, K, n) become tangents, in place; the cosines (R, K) of the angles to them and the tangents' lengths are written. */
static PyObject *turn_tangents(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    if (!begin(&call, "turn_tangents", args, count, 6)) return refuse();
    Turns *turns = &call.turns;
    const Array *angles = &turns->angles, *two[] = {&turns->cosine, &turns->sine};
    if (!view_tensor(args[3], &turns->angles) || !view_tensor(args[4], &turns->cosine) || !view_tensor(args[5], &turns->sine)) return refuse();
    if (angles->ndim != 3 || angles->shape[0] != turns->params.shape[0] || angles->shape[2] != turns->params.shape[1]) return refuse();
    for (int i = 0; i < 2; i++)
        if (two[i]->ndim != 2 || two[i]->shape[0] != angles->shape[0] || two[i]->shape[1] != angles->shape[1]) return refuse();
    KERNEL(tangents)(call.kind, turns, call.data, NULL);
    Py_RETURN_TRUE;
}

static PyObject *turn_settle(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    if (!begin(&call, "turn_settle", args, count, 8) || (call.kind != ELLIPSE && call.kind != BOOTH)) return refuse();
    if (!settle(&call, args[3], args[4], args[5], args[6], args[7])) return refuse();
    return found_by(&call, chosen->settle_turns);
}

/* A matrix in one piece. */
static int piece(Borrowed *borrowed, PyObject *object, const char *name, const Array *like, Matrix *out) {
    if (!matrix(borrowed, object, name, like->shape[0], like->shape[1], 1, out)) return 0;
    if (out->rows < 2 || out->stride == out->columns) return 1;
    PyErr_Format(PyExc_ValueError, "%s must be in one piece", name);
    return 0;
}

/* A tensor with a number per run, or NULL where the argument is None; 0 where a kernel cannot read it, or with an exception. */
static int perhaps(PyObject *object, const char *name, int64_t runs, const double **out) {
    Array view;
    *out = NULL;
    if (object == Py_None) return 1;
    if (!view_tensor(object, &view)) return 0;
    if (view.ndim != 1 || view.shape[0] != runs) {
        PyErr_Format(PyExc_ValueError, "%s must have %lld entries", name, (long long)runs);
        return 0;
    }
    *out = view.data;
    return view.stride[0] == 1 || runs == 1;
}

static PyObject *judge(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    Proposal p;
    PyObject *result = NULL;
    if (!arguments("judge", count, 26)) return NULL;
    p.relative = PyFloat_AsDouble(args[11]);
    p.rounding = PyFloat_AsDouble(args[12]);
    p.huge = PyFloat_AsDouble(args[13]);
    p.carried = PyObject_IsTrue(args[14]);
    p.tested = PyObject_IsTrue(args[15]);
    if (PyErr_Occurred() || !PyArg_ParseTuple(args[16], "LLLL", &p.statuses[0], &p.statuses[1], &p.statuses[2], &p.statuses[3])) return NULL;
    if (!only_numbers_count()) return refuse();
    static const char *const names[] = {"params", "gradient", "start_params", "start_gradient"};
    Array *four[] = {&p.params, &p.gradient, &p.start_params, &p.start_gradient};
    for (int i = 0; i < 4; i++) {
        if (!view_tensor(args[i], four[i])) return refuse();
        if (four[i]->ndim != 2 || four[i]->shape[0] != p.params.shape[0] || four[i]->shape[1] != p.params.shape[1] || !four[i]->shape[1])
            return PyErr_Format(PyExc_ValueError, "%s has another shape than params, which does not fit", names[i]);
    }
    const int64_t runs = p.params.shape[0];
    if (!perhaps(args[4], "before", runs, &p.before) || !perhaps(args[5], "after", runs, &p.after) ||
        !perhaps(args[6], "scale", runs, &p.scale) || !perhaps(args[7], "score", runs, &p.score) ||
        !perhaps(args[8], "staying", runs, &p.staying) || !perhaps(args[9], "rate_factor", runs, &p.rate_factor) ||
        !perhaps(args[10], "start_norm2", runs, &p.start_norm2) || !perhaps(args[17], "squares", runs, &p.squares))
        return refuse();
    if (!p.before || !p.after || !p.scale || !p.score != !p.staying)
        PyErr_SetString(PyExc_ValueError, "a proposal has losses and a scale, and score and staying belong together");
    else if (piece(&borrowed, args[18], "found_params", &p.params, &p.found_params) &&
             piece(&borrowed, args[19], "found_gradient", &p.params, &p.found_gradient) &&
             (p.loss = vector(&borrowed, args[20], "loss", runs, 1)) && (p.change = vector(&borrowed, args[21], "change", runs, 1)) &&
             (p.factor = vector(&borrowed, args[22], "factor", runs, 1)) && (p.norm2 = vector(&borrowed, args[23], "norm2", runs, 1)) &&
             (p.moved = vector_of(&borrowed, args[24], "moved", "?", runs, 1)) &&
             (p.status = vector_of(&borrowed, args[25], "status", "l", runs, 1)))
        result = PyBool_FromLong(chosen->judge(&p));
    give_back(&borrowed);
    return result;
}

PyMethodDef turn_methods[] = {
    METHOD(turn_direction, "turn_direction(kind, params, gradient, *data): angles (R, d)"),
    METHOD(turn_ascend, "turn_ascend(kind, params, gradient, loss, scale, lengths, trust, shrink, sign, relative, rounding, *data)"),
    METHOD(turn_choose, "turn_choose(kind, params, gradient, loss, scale, rate, angles, cosine, sine, sign, relative, rounding, *data)"),
    METHOD(turn_ahead, "turn_ahead(kind, params, gradient, loss, scale, rate, reach, cosine, sine, sign, relative, rounding, *data)"),
    METHOD(turn_tangents, "turn_tangents(kind, params, gradient, drawn, cosine, length, *data): writes all three, True"),
    METHOD(turn_settle, "turn_settle(kind, params, gradient, loss, scale, sign, relative, rounding, *data)"),
    METHOD(judge,
           "judge(params, gradient, start_params, start_gradient, before, after, scale, score, staying, rate_factor, start_norm2, relative, "
           "rounding, huge, carried, tested, statuses, squares, found_params, found_gradient, loss, change, factor, norm2, moved, status): "
           "what of a proposal is allowed, tensors in and arrays out; whether all runs moved, None where the kernels do not serve"),
    {NULL, NULL, 0, NULL},
};
