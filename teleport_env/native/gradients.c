/* Loss and gradient of problems: functions of tensors.

Each is called as f(params, gradient, data...) and returns the loss if `gradient` is False, else (loss, gradient), the
gradient in the layout of the parameters. The result is None where the kernels do not serve. */
#include "tensors.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    Array params, gradient, loss, data[3];
    PyObject *loss_out, *gradient_out;
} Call;

/* Whether everything is a tensor that a kernel can read, each with a row per run; raises if arguments are missing. */
static int begin(Call *call, const char *name, PyObject *const *args, Py_ssize_t count, int data) {
    if (!arguments(name, count, 2 + data)) return 0;
    if (!only_numbers_count() || !view_tensor(args[0], &call->params) || call->params.ndim != 2) return 0;
    const int64_t runs = call->params.shape[0], entries = call->params.shape[1];
    for (int i = 0; i < data; i++)
        if (!view_tensor(args[2 + i], &call->data[i]) || call->data[i].shape[0] != runs) return 0;
    return runs > 0 && entries > 0;
}

/* Memory for the results, NULL with an exception; `results` hands them over. */
static int make_room(Call *call, PyObject *wanted) {
    const Array *params = &call->params;
    const int64_t runs = params->shape[0], entries = params->shape[1];
    const int columns = params->stride[0] < params->stride[1] && runs > 1;
    call->gradient_out = NULL;
    call->loss_out = new_tensor(runs, 0, 0, &call->loss);
    if (!call->loss_out || wanted == Py_False) return call->loss_out != NULL;
    call->gradient_out = new_tensor(runs, entries, columns, &call->gradient);
    if (!call->gradient_out) Py_CLEAR(call->loss_out);
    return call->gradient_out != NULL;
}

static const Array *gradient_of(const Call *call) { return call->gradient_out ? &call->gradient : NULL; }

static PyObject *results(Call *call) {
    if (!call->gradient_out) return call->loss_out;
    PyObject *both = PyTuple_Pack(2, call->loss_out, call->gradient_out);
    Py_DECREF(call->loss_out);
    Py_DECREF(call->gradient_out);
    return both;
}

static PyObject *end(Call *call, GradientKernel *kernel, PyObject *wanted) {
    if (!make_room(call, wanted)) return NULL;
    kernel(&call->params, call->data, call->loss.data, gradient_of(call));
    return results(call);
}

static int is_matrix(const Array *array, int64_t columns) { return array->ndim == 2 && array->shape[1] == columns; }

static PyObject *rosenbrock(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    Array *curvature = call.data;
    if (!begin(&call, "rosenbrock", args, count, 1)) return refuse();
    if (curvature->ndim == 1) *curvature = (Array){curvature->data, {curvature->shape[0], 1, 0}, {curvature->stride[0], 0, 0}, 2};
    if (call.params.shape[1] % 2 || !is_matrix(curvature, call.params.shape[1] / 2)) return refuse();
    return end(&call, chosen->rosenbrock, args[1]);
}

static PyObject *ellipse(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    if (!begin(&call, "ellipse", args, count, 1) || call.params.shape[1] != 2 || !is_matrix(call.data, 2)) return refuse();
    return end(&call, chosen->ellipse, args[1]);
}

static PyObject *booth(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    const Array *map = call.data;
    if (!begin(&call, "booth", args, count, 2) || call.params.shape[1] != 2 || map->ndim != 3 || map->shape[1] != 2 ||
        map->shape[2] != 2 || !is_matrix(&call.data[1], 2))
        return refuse();
    return end(&call, chosen->booth, args[1]);
}

static PyObject *quadratic(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    const Array *matrix = call.data;
    if (!begin(&call, "quadratic", args, count, 1)) return refuse();
    const int64_t n = call.params.shape[1];
    if (n < 2 || n > LARGEST_QUADRATIC || matrix->ndim != 3 || matrix->shape[1] != n || matrix->shape[2] != n ||
        matrix->stride[1] != n || matrix->stride[2] != 1)
        return refuse();
    return end(&call, chosen->quadratic, args[1]);
}

/* -- networks ------------------------------------------------------------------------------------------------------ */

int read_network(PyObject *packed, Network *net) {
    char *bytes;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(packed, &bytes, &length) < 0) return 0;
    const Py_ssize_t word = sizeof(int64_t), layers = length / word - 4;
    if (length % word || layers < 1 || layers > MOST_LAYERS) {
        PyErr_Format(PyExc_ValueError, "a network has 1 to %d layers, packed as bias, widths, slope, scale", MOST_LAYERS);
        return 0;
    }
    *net = (Network){.layers = layers};
    memcpy(&net->bias, bytes, word);
    memcpy(net->widths, bytes + word, (size_t)(layers + 1) * word);
    memcpy(&net->slope, bytes + (layers + 2) * word, word);
    memcpy(&net->scale, bytes + (layers + 3) * word, word);
    for (int64_t l = 0; l <= layers; l++) {
        if (net->widths[l] < 1 || net->widths[l] > INT32_MAX / 2 || net->bias < 0 || net->bias > 1) {
            PyErr_SetString(PyExc_ValueError, "a width must be positive and fit 30 bits, and the bias must be 0 or 1");
            return 0;
        }
        if (net->widths[l] > net->widest) net->widest = net->widths[l];
        if (l) net->parameters += net->widths[l] * (net->widths[l - 1] + net->bias);
    }
    return 1;
}

double *tile_memory(int64_t vectors) {
    static double *memory = NULL;
    static int64_t room = 0;
    const int64_t needed = vectors * MOST_LANES;
    if (needed > room) {
        free(memory);
        room = 0;
        if (!(memory = malloc((size_t)(needed + MOST_LANES) * sizeof(double)))) return (double *)PyErr_NoMemory();
        room = needed;
    }
    const uintptr_t vector = MOST_LANES * sizeof(double);
    return (double *)(((uintptr_t)memory + vector - 1) / vector * vector);
}

static double *network_memory(const Network *net) {
    int64_t vectors = net->parameters + (2 * net->widest + 1) * net->samples; /* one for labels */
    for (int64_t l = 0; l <= net->layers; l++) vectors += net->widths[l] * net->samples;
    return tile_memory(vectors);
}

/* Whether a network on so many examples is small enough. */
static int is_small(const Network *net) { return net->samples > 0 && net->parameters <= MOST_PRODUCTS / net->samples; }

/* Whether data is (B, width, samples), each run's in one piece. */
static int is_data(const Array *array, int64_t width, int64_t samples) {
    return array->ndim == 3 && array->shape[1] == width && array->shape[2] == samples && (samples == 1 || array->stride[2] == 1) &&
           (width == 1 || array->stride[1] == samples);
}

static PyObject *network(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Network net;
    Call call;
    if (!arguments("network", count, 5) || !read_network(args[2], &net)) return NULL;
    const Array *targets = &call.data[0], *inputs = args[3] == Py_None ? NULL : &call.data[1];
    PyObject *const tensors[] = {args[0], args[1], args[4], args[inputs ? 3 : 4]};
    if (!begin(&call, "network", tensors, 4, 2) || call.params.shape[1] != net.parameters || targets->ndim != 3) return refuse();
    net.samples = targets->shape[2];
    if (!is_small(&net) || !is_data(targets, net.widths[net.layers], net.samples) ||
        (inputs ? !is_data(inputs, net.widths[0], net.samples) : net.samples != net.widths[0] || net.bias))
        return refuse();
    double *memory = network_memory(&net);
    if (!memory || !make_room(&call, args[1])) return NULL;
    chosen->network(&net, &call.params, inputs, targets, call.loss.data, gradient_of(&call), memory);
    return results(&call);
}

static PyObject *factors(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    Factors f;
    if (!arguments("factors", count, 8)) return NULL;
    const Array *targets = call.data, *floor = call.data + 1, *observed = args[4] == Py_None ? NULL : call.data + 2;
    PyObject *const tensors[] = {args[0], args[1], args[2], args[3], args[observed ? 4 : 2]};
    f.rank = PyLong_AsLongLong(args[5]), f.height = PyLong_AsLongLong(args[6]), f.scale = PyFloat_AsDouble(args[7]);
    if (PyErr_Occurred() || !begin(&call, "factors", tensors, 5, 3) || targets->ndim != 3 || floor->ndim != 1) return refuse();
    f.rows = targets->shape[1], f.columns = targets->shape[2];
    if (f.rank < 1 || f.height < 0 || f.rows < 1 || f.columns < 1 || f.rank > MOST_PRODUCTS / f.rows / f.columns ||
        (f.height && f.columns % f.height) || !is_data(targets, f.rows, f.columns) || (observed && !is_data(observed, f.rows, f.columns)) ||
        call.params.shape[1] != f.rank * (f.rows + (f.height ? f.height + f.columns / f.height : f.columns)))
        return refuse();
    double *memory = tile_memory(call.params.shape[1] + 2 * (f.rank + f.rows) * f.columns);
    if (!memory || !make_room(&call, args[1])) return NULL;
    chosen->factors(&f, &call.params, targets, floor, observed, call.loss.data, gradient_of(&call), memory);
    return results(&call);
}

/* Images and labels that fit a network; a label is below the number of classes. */
static int read_examples(const Network *net, PyObject *images, PyObject *labels, Examples *examples) {
    Array view;
    int64_t count, step;
    const int64_t pixels = net->widths[0], classes = net->widths[net->layers];
    if (!view_tensor(images, &view) || view.ndim != 2 || view.shape[1] != pixels || view.shape[0] < 1 ||
        view.stride[0] != pixels || (pixels > 1 && view.stride[1] != 1) ||
        !view_integers(labels, &examples->labels, 1, &count, &step) || count != view.shape[0] || (count > 1 && step != 1))
        return 0;
    for (int64_t i = 0; i < count; i++)
        if (examples->labels[i] < 0 || examples->labels[i] >= classes) return 0;
    examples->images = view.data;
    examples->count = count;
    return 1;
}

static PyObject *classifier(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Network net;
    Call call;
    Examples examples;
    int64_t shape[2], *stride = examples.batch_stride;
    if (!arguments("classifier", count, 6) || !read_network(args[2], &net)) return NULL;
    if (!begin(&call, "classifier", args, 2, 0) || call.params.shape[1] != net.parameters ||
        !view_integers(args[5], &examples.batch, 2, shape, stride) || shape[0] != call.params.shape[0])
        return refuse();
    net.samples = shape[1];
    if (!is_small(&net) || !read_examples(&net, args[3], args[4], &examples)) return refuse();
    for (int64_t run = 0; run < shape[0]; run++)
        for (int64_t e = 0; e < shape[1]; e++) {
            const int64_t which = examples.batch[run * stride[0] + e * stride[1]];
            if (which < 0 || which >= examples.count) return refuse();
        }
    double *memory = network_memory(&net);
    if (!memory || !make_room(&call, args[1])) return NULL;
    chosen->classifier(&net, &call.params, &examples, call.loss.data, gradient_of(&call), memory);
    return results(&call);
}

static PyObject *measure(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Network net;
    Array params, loss, right;
    Examples examples;
    if (!arguments("measure", count, 4) || !read_network(args[1], &net)) return NULL;
    net.samples = PORTION;
    if (!only_numbers_count() || !view_tensor(args[0], &params) || params.ndim != 2 || params.shape[0] < 1 ||
        params.shape[1] != net.parameters || !is_small(&net) || !read_examples(&net, args[2], args[3], &examples))
        return refuse();
    double *memory = network_memory(&net);
    PyObject *both[2] = {memory ? new_tensor(params.shape[0], 0, 0, &loss) : NULL, NULL};
    if (both[0]) both[1] = new_tensor(params.shape[0], 0, 0, &right);
    if (both[1]) chosen->measure(&net, &params, &examples, loss.data, right.data, memory);
    PyObject *found = both[1] ? PyTuple_Pack(2, both[0], both[1]) : NULL;
    Py_XDECREF(both[0]);
    Py_XDECREF(both[1]);
    return found;
}

static PyObject *spectra(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Array basis, eigenvalues, matrix;
    if (!arguments("spectra", count, 2)) return NULL;
    if (!only_numbers_count() || !view_tensor(args[0], &basis) || !view_tensor(args[1], &eigenvalues) || basis.ndim != 3) return refuse();
    const int64_t runs = basis.shape[0], n = basis.shape[1];
    if (runs < 1 || n < 1 || n > LARGEST_SPECTRUM || basis.shape[2] != n || basis.stride[1] != n || basis.stride[2] != 1 ||
        !is_matrix(&eigenvalues, n) || eigenvalues.shape[0] != runs)
        return refuse();
    PyObject *found = new_tensor(runs, n * n, 0, &matrix);
    if (found) chosen->spectra(&basis, &eigenvalues, &matrix);
    return found;
}

/* The inverse of one matrix a (n, n), which is used up, by Gauss and Jordan with row pivots; NaN where a pivot vanishes, where an entry
is not finite, or where the condition number in the 1-norm exceeds 1 / DBL_EPSILON. */
static void invert(double *a, double *inverse, int64_t n) {
    double columns[2] = {0.0, 0.0}; /* the 1-norms */
    int regular = 1;
    for (int64_t j = 0; j < n; j++) {
        double sum = 0.0;
        for (int64_t i = 0; i < n; i++) sum += fabs(a[i * n + j]);
        columns[0] = fmax(columns[0], sum);
    }
    for (int64_t i = 0; i < n * n; i++) inverse[i] = i % (n + 1) ? 0.0 : 1.0;
    for (int64_t k = 0; k < n && regular; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[best * n + k])) best = i;
        const double pivot = a[best * n + k];
        regular = pivot != 0.0;
        for (int64_t j = 0; j < n; j++) {
            const double above = a[best * n + j], beside = inverse[best * n + j];
            a[best * n + j] = a[k * n + j];
            inverse[best * n + j] = inverse[k * n + j];
            a[k * n + j] = above / pivot;
            inverse[k * n + j] = beside / pivot;
        }
        for (int64_t i = 0; i < n; i++) {
            const double factor = a[i * n + k];
            if (i == k || factor == 0.0) continue;
            for (int64_t j = k + 1; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
            for (int64_t j = 0; j < n; j++) inverse[i * n + j] -= factor * inverse[k * n + j];
        }
    }
    for (int64_t j = 0; j < n; j++) {
        double sum = 0.0;
        for (int64_t i = 0; i < n; i++) sum += fabs(inverse[i * n + j]);
        regular = regular && isfinite(sum);
        columns[1] = fmax(columns[1], sum);
    }
    if (!regular || !(columns[0] * columns[1] <= 1.0 / DBL_EPSILON))
        for (int64_t i = 0; i < n * n; i++) inverse[i] = NAN;
}

static PyObject *inverses(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Array from, to;
    if (!arguments("inverses", count, 1)) return NULL;
    if (!only_numbers_count() || !view_tensor(args[0], &from) || from.ndim != 3) return refuse();
    const int64_t runs = from.shape[0], n = from.shape[1];
    if (runs < 1 || n < 1 || n > LARGEST_INVERSE || from.shape[2] != n) return refuse();
    PyObject *found = new_tensor(runs, n * n, 0, &to);
    double a[LARGEST_INVERSE * LARGEST_INVERSE];
    for (int64_t run = 0; found && run < runs; run++) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) a[i * n + j] = from.data[run * from.stride[0] + i * from.stride[1] + j * from.stride[2]];
        invert(a, to.data + run * n * n, n);
    }
    return found;
}

static int is_square(const Array *array) {
    const int64_t n = array->shape[1];
    return array->ndim == 3 && array->shape[2] == n && array->stride[1] == n && array->stride[2] == 1;
}

static PyObject *balances(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Array a, b, logs, basis;
    if (!arguments("balances", count, 3)) return NULL;
    const double most = PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred() || !only_numbers_count() || !view_tensor(args[0], &a) || !view_tensor(args[1], &b)) return refuse();
    const int64_t runs = a.shape[0], n = a.shape[1];
    if (runs < 1 || n < 1 || n > LARGEST_BALANCE || !is_square(&a) || !is_square(&b) || b.shape[0] != runs || b.shape[1] != n)
        return refuse();
    PyObject *both[2] = {new_tensor(runs, n, 0, &logs), NULL};
    if (both[0]) both[1] = new_tensor(runs, n * n, 0, &basis);
    if (both[1]) chosen->balances(&a, &b, most, &logs, &basis);
    PyObject *found = both[1] ? PyTuple_Pack(2, both[0], both[1]) : NULL;
    Py_XDECREF(both[0]);
    Py_XDECREF(both[1]);
    return found;
}

PyMethodDef gradient_methods[] = {
    METHOD(rosenbrock, "rosenbrock(params, gradient, curvature)"),
    METHOD(ellipse, "ellipse(params, gradient, curvatures)"),
    METHOD(booth, "booth(params, gradient, map, offset)"),
    METHOD(quadratic, "quadratic(params, gradient, matrix)"),
    METHOD(network, "network(params, gradient, packed, inputs or None, targets)"),
    METHOD(factors, "factors(params, gradient, targets, floor, observed or None, rank, height of a tensor's pages or 0, scale)"),
    METHOD(classifier, "classifier(params, gradient, packed, images, labels, batch)"),
    METHOD(measure, "measure(params, packed, images, labels): mean cross-entropy, share that is right"),
    METHOD(spectra, "spectra(normals, eigenvalues): matrices (B, n n) with these eigenvalues; the normal numbers become the eigenvectors"),
    METHOD(inverses, "inverses(matrices): (B, n n), NaN where a matrix is numerically singular"),
    METHOD(balances, "balances(a, b, most): logarithms (B, n), within most, and eigenvectors (B, n n) of the S for which tr(S^-1 a) + tr(S b) is least"),
    {NULL, NULL, 0, NULL},
};
