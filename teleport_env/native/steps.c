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
        const int by_rows = PyObject_IsTrue(args[4]);
        const int64_t runs = by_rows ? params.rows : params.columns;
        if (by_rows >= 0 && (rate = vector(&borrowed, args[2], "rate", runs, 0)) && waiting_runs(&borrowed, args[3], runs, &waiting)) {
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
            if (!(b.by_rows ? b.gradient.columns : b.gradient.rows)) {
                PyErr_SetString(PyExc_ValueError, "gradient must have at least one parameter, it has none");
            } else if (integers->shape[0] != INTEGERS || integers->shape[1] != runs) {
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

/* A contiguous matrix of a format. */
static void *table(Borrowed *borrowed, PyObject *object, const char *name, const char *format, int64_t rows, int64_t columns, int writable) {
    Py_buffer *view = borrow(borrowed, object, name, format, 2, writable);
    if (!view) return NULL;
    if ((rows >= 0 && view->shape[0] != rows) || view->shape[1] != columns ||
        (view->shape[0] > 1 && view->strides[0] != columns * view->itemsize)) {
        PyErr_Format(PyExc_ValueError, "%s has the shape (%zd, %zd), which does not fit, or is not contiguous", name, view->shape[0],
                     view->shape[1]);
        return NULL;
    }
    return view->buf;
}

static PyObject *features(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    Sight s;
    Py_buffer *integers;
    PyObject *result = NULL;
    if (!arguments("features", count, 12)) return NULL;
    s.per_budget = (float)PyFloat_AsDouble(args[9]);
    s.log_tolerance = (float)PyFloat_AsDouble(args[10]);
    if (PyErr_Occurred()) return NULL;
    if (matrix(&borrowed, args[0], "floats", FLOATS, -1, 0, &s.floats) &&
        (integers = borrow(&borrowed, args[1], "integers", "l", 2, 0)) && (s.runs = s.floats.columns, 1) &&
        (s.share = vector_of(&borrowed, args[2], "share", "f", s.runs, 0)) &&
        (s.left = vector_of(&borrowed, args[3], "left", "f", s.runs, 0)) &&
        (s.log_left = vector_of(&borrowed, args[4], "log_left", "f", s.runs, 0)) &&
        (s.cheapest = vector_of(&borrowed, args[5], "cheapest", "f", s.runs, 0)) &&
        (s.thirds = vector_of(&borrowed, args[6], "thirds", "f", -1, 0)) &&
        (s.thirds_count = borrowed.views[borrowed.count - 1].shape[0], 1) &&
        (s.terms = table(&borrowed, args[7], "terms", "l", -1, 3, 0)) &&
        (s.count = borrowed.views[borrowed.count - 1].shape[0], 1) &&
        (s.bounds = table(&borrowed, args[8], "bounds", "f", s.count, 3, 0)) &&
        (s.out = table(&borrowed, args[11], "out", "f", s.count, s.runs, 1))) {
        int fits = integers->shape[0] == INTEGERS && integers->shape[1] == s.runs && s.thirds_count > 0;
        for (int64_t k = 0; k < s.count; k++) {
            fits &= s.terms[3 * k] >= 0;
            for (int j = 0; j < 3; j++) fits &= s.terms[3 * k + j] < FLOATS + DERIVED;
        }
        if (fits) {
            s.integers = integers->buf;
            s.integer_stride = integers->strides[0] / (int64_t)sizeof(int64_t);
            chosen->features(&s);
            result = Py_NewRef(Py_None);
        } else {
            PyErr_SetString(PyExc_ValueError, "integers, thirds or terms do not fit");
        }
    }
    give_back(&borrowed);
    return result;
}

static PyObject *payable(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    Matrix costs;
    const double *cost;
    const uint8_t *terminated = NULL, *truncated = NULL;
    uint8_t *out;
    PyObject *result = NULL;
    if (!arguments("payable", count, 6)) return NULL;
    const double room = PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred()) return NULL;
    if (matrix(&borrowed, args[0], "costs", -1, -1, 0, &costs) && (cost = vector(&borrowed, args[1], "cost", -1, 0))) {
        const int64_t runs = borrowed.views[1].shape[0];
        if (costs.columns != 1 && costs.columns != runs) {
            PyErr_Format(PyExc_ValueError, "costs must have %lld columns or one, it has %lld", (long long)runs, (long long)costs.columns);
        } else if ((args[3] == Py_None || ((terminated = vector_of(&borrowed, args[3], "terminated", "?", runs, 0)) &&
                                           (truncated = vector_of(&borrowed, args[4], "truncated", "?", runs, 0)))) &&
                   (out = table(&borrowed, args[5], "out", "b", costs.rows, runs, 1))) {
            chosen->payable(&costs, runs, cost, room, terminated, truncated, out);
            result = Py_NewRef(Py_None);
        }
    }
    give_back(&borrowed);
    return result;
}

static PyObject *left(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    const double *cost;
    float *share, *rest, *more;
    PyObject *result = NULL;
    if (!arguments("left", count, 5)) return NULL;
    const double budget = PyFloat_AsDouble(args[1]);
    if (PyErr_Occurred()) return NULL;
    if ((cost = vector(&borrowed, args[0], "cost", -1, 0))) {
        const int64_t runs = borrowed.views[0].shape[0];
        if ((share = vector_of(&borrowed, args[2], "share", "f", runs, 1)) && (rest = vector_of(&borrowed, args[3], "left", "f", runs, 1)) &&
            (more = vector_of(&borrowed, args[4], "more", "f", runs, 1))) {
            chosen->left(cost, runs, budget, share, rest, more);
            result = Py_NewRef(Py_None);
        }
    }
    give_back(&borrowed);
    return result;
}

static PyObject *settle(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    Turn t;
    PyObject *result = NULL;
    if (!arguments("settle", count, 18)) return NULL;
    t.floor = PyFloat_AsDouble(args[13]);
    t.tolerance = PyFloat_AsDouble(args[14]);
    t.most_cost = PyFloat_AsDouble(args[15]);
    t.most_actions = PyLong_AsLongLong(args[16]);
    t.pays = PyObject_IsTrue(args[17]);
    if (PyErr_Occurred()) return NULL;
    if ((t.log_loss = vector(&borrowed, args[0], "log_loss", -1, 0)) && (t.runs = borrowed.views[0].shape[0], 1) &&
        (t.loss = vector(&borrowed, args[1], "loss", t.runs, 0)) && (t.cost = vector(&borrowed, args[2], "cost", t.runs, 0)) &&
        (t.before = vector(&borrowed, args[3], "before", t.runs, 0)) && (t.now = vector(&borrowed, args[4], "now", t.runs, 1)) &&
        (t.reward = vector(&borrowed, args[5], "reward", t.runs, 1)) && (t.returns = vector(&borrowed, args[6], "returns", t.runs, 1)) &&
        (t.actions = vector_of(&borrowed, args[7], "actions", "l", t.runs, 1)) &&
        (t.diverged = vector_of(&borrowed, args[8], "diverged", "?", t.runs, 0)) &&
        (t.terminated = vector_of(&borrowed, args[9], "terminated", "?", t.runs, 1)) &&
        (t.truncated = vector_of(&borrowed, args[10], "truncated", "?", t.runs, 1)) &&
        (t.ended = vector_of(&borrowed, args[11], "ended", "?", t.runs, 1)) && waiting_runs(&borrowed, args[12], t.runs, &t.idle))
        result = PyBool_FromLong(chosen->settle(&t));
    give_back(&borrowed);
    return result;
}

/* A matrix of float64 or int64, of the format that the first of them has. */
static int words(Borrowed *borrowed, PyObject *object, const char *name, int64_t rows, int64_t columns, int writable,
                 const char **format, Matrix *out) {
    Py_buffer *view = borrow(borrowed, object, name, *format, 2, writable);
    if (!view) return 0;
    *format = *view->format == 'd' ? "d" : "l";
    if ((rows >= 0 && view->shape[0] != rows) || (columns >= 0 && view->shape[1] != columns)) {
        PyErr_Format(PyExc_ValueError, "%s has %zd rows and %zd columns, which does not fit", name, view->shape[0], view->shape[1]);
        return 0;
    }
    *out = (Matrix){view->buf, view->strides[0] / (int64_t)sizeof(double), view->shape[0], view->shape[1]};
    return 1;
}

static int within(const int64_t *indices, int64_t count, int64_t limit) {
    int fits = 1;
    for (int64_t j = 0; j < count; j++) fits &= indices[j] >= 0 && indices[j] < limit;
    if (!fits) PyErr_SetString(PyExc_IndexError, "a run lies outside the matrix");
    return fits;
}

static PyObject *adopt(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    Matrix target, source;
    const int64_t *to, *from;
    const char *format = "dl";
    PyObject *result = NULL;
    const uint8_t *constant = NULL;
    if (!arguments("adopt", count, 6)) return NULL;
    const int by_rows = PyObject_IsTrue(args[4]);
    if (by_rows < 0) return NULL;
    if (words(&borrowed, args[0], "target", -1, -1, 1, &format, &target) &&
        words(&borrowed, args[2], "source", by_rows ? -1 : target.rows, by_rows ? target.columns : -1, 0, &format, &source) &&
        (to = vector_of(&borrowed, args[1], "to", "l", -1, 0))) {
        int64_t runs = borrowed.views[borrowed.count - 1].shape[0];
        if ((from = vector_of(&borrowed, args[3], "from", "l", runs, 0)) && within(to, runs, by_rows ? target.rows : target.columns) &&
            within(from, runs, by_rows ? source.rows : source.columns) &&
            (args[5] == Py_None || (constant = vector_of(&borrowed, args[5], "constant", "?", target.rows, 0)))) {
            if (by_rows)
                chosen->adopt_rows(&target, to, &source, from, runs);
            else
                chosen->adopt(&target, to, &source, from, runs, constant);
            result = Py_NewRef(Py_None);
        }
    }
    give_back(&borrowed);
    return result;
}

static PyObject *draw(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Borrowed borrowed = {.count = 0};
    Py_buffer *out;
    const uint64_t *keys;
    PyObject *result = NULL;
    if (!arguments("draw", count, 3)) return NULL;
    const int64_t first = PyLong_AsLongLong(args[1]);
    if (PyErr_Occurred()) return NULL;
    if ((keys = vector_of(&borrowed, args[0], "keys", "l", -1, 0)) && (out = borrow(&borrowed, args[2], "out", "dl", 2, 1))) {
        const int64_t runs = borrowed.views[0].shape[0], amount = out->shape[1];
        if (out->shape[0] != runs || (runs > 1 && out->strides[0] != amount * out->itemsize)) {
            PyErr_Format(PyExc_ValueError, "out has the shape (%zd, %zd), which does not fit, or is not contiguous", out->shape[0], out->shape[1]);
        } else {
            const int units = *out->format == 'd';
            chosen->draw(keys, runs, (uint64_t)first, amount, units ? NULL : out->buf, units ? out->buf : NULL);
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
    METHOD(features,
           "features(floats, integers, share, left, log_left, cheapest, thirds, terms, bounds, per_budget, log_tolerance, out)"),
    METHOD(payable, "payable(costs, cost, room, terminated, truncated, out): which actions the rest of each budget can pay; terminated None: no "
           "episode is over"),
    METHOD(left, "left(cost, budget, share, left, more): what is left of the budget, at least 1e-9 of it, and one more"),
    METHOD(settle,
           "settle(log_loss, loss, cost, before, now, reward, returns, actions, diverged, terminated, truncated, ended, idle, floor, "
           "tolerance, most_cost, most_actions, pays): orders, counts, ends and rewards after an action; whether an episode ended"),
    METHOD(adopt, "adopt(target, to, source, from, by_rows, constant): overwrite runs, columns or rows of a matrix of int64 or float64, by others; "
           "constant: None, or for each row whether the columns agree in it"),
    METHOD(draw, "draw(keys, first, out): the next numbers of streams, int64 or uniform float64"),
    {NULL, NULL, 0, NULL},
};
