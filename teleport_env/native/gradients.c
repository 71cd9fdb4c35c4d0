/* Loss and gradient of problems: functions of tensors.

Each is called as f(params, loss, gradient, data...) and returns the loss if `gradient` is False, else (loss, gradient). A
loss of None and a gradient of True are made anew, the gradient in the layout of the parameters; tensors are written into.
The result is None, and nothing is written, where the kernels do not serve. */
#include "tensors.h"

typedef struct {
    Array params, gradient, loss, data[2];
    PyObject *loss_given, *gradient_given;
} Call;

/* Whether everything is a tensor that a kernel can read, each with a row per run; raises if arguments are missing. */
static int begin(Call *call, const char *name, PyObject *const *args, Py_ssize_t count, int data) {
    if (!arguments(name, count, 3 + data)) return 0;
    if (!view_tensor(args[0], &call->params) || call->params.ndim != 2) return 0;
    const int64_t runs = call->params.shape[0], entries = call->params.shape[1];
    for (int i = 0; i < data; i++)
        if (!view_tensor(args[3 + i], &call->data[i]) || call->data[i].shape[0] != runs) return 0;
    call->loss_given = args[1] == Py_None ? NULL : args[1];
    call->gradient_given = args[2] == Py_True || args[2] == Py_False ? NULL : args[2];
    const Array *loss = &call->loss, *gradient = &call->gradient;
    if (call->loss_given && (!view_tensor(args[1], &call->loss) || loss->ndim != 1 || loss->shape[0] != runs || loss->stride[0] != 1))
        return 0;
    if (call->gradient_given && (!view_tensor(args[2], &call->gradient) || gradient->ndim != 2 || gradient->shape[0] != runs ||
                                 gradient->shape[1] != entries))
        return 0;
    return runs > 0 && entries > 0;
}

static PyObject *refuse(void) { return PyErr_Occurred() ? NULL : Py_NewRef(Py_None); }

/* Evaluates and hands over the results. */
static PyObject *end(Call *call, GradientKernel *kernel, PyObject *wanted) {
    const Array *params = &call->params;
    const int64_t runs = params->shape[0], entries = params->shape[1];
    const int columns = params->stride[0] < params->stride[1] && runs > 1;
    PyObject *loss = call->loss_given ? Py_NewRef(call->loss_given) : new_tensor(runs, 0, 0, &call->loss), *gradient = NULL;
    if (!loss) return NULL;
    if (wanted != Py_False) {
        gradient = call->gradient_given ? Py_NewRef(call->gradient_given) : new_tensor(runs, entries, columns, &call->gradient);
        if (!gradient) {
            Py_DECREF(loss);
            return NULL;
        }
    }
    kernel(params, call->data, call->loss.data, gradient ? &call->gradient : NULL);
    if (!gradient) return loss;
    PyObject *both = PyTuple_Pack(2, loss, gradient);
    Py_DECREF(loss);
    Py_DECREF(gradient);
    return both;
}

static int is_matrix(const Array *array, int64_t columns) { return array->ndim == 2 && array->shape[1] == columns; }

static PyObject *rosenbrock(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    Array *curvature = call.data;
    if (!begin(&call, "rosenbrock", args, count, 1)) return refuse();
    if (curvature->ndim == 1) *curvature = (Array){curvature->data, {curvature->shape[0], 1, 0}, {curvature->stride[0], 0, 0}, 2};
    if (call.params.shape[1] % 2 || !is_matrix(curvature, call.params.shape[1] / 2)) return refuse();
    return end(&call, chosen->rosenbrock, args[2]);
}

static PyObject *ellipse(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    if (!begin(&call, "ellipse", args, count, 1) || call.params.shape[1] != 2 || !is_matrix(call.data, 2)) return refuse();
    return end(&call, chosen->ellipse, args[2]);
}

static PyObject *booth(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    const Array *map = call.data;
    if (!begin(&call, "booth", args, count, 2) || call.params.shape[1] != 2 || map->ndim != 3 || map->shape[1] != 2 ||
        map->shape[2] != 2 || !is_matrix(&call.data[1], 2))
        return refuse();
    return end(&call, chosen->booth, args[2]);
}

static PyObject *quadratic(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Call call;
    const Array *matrix = call.data;
    if (!begin(&call, "quadratic", args, count, 1)) return refuse();
    const int64_t n = call.params.shape[1];
    if (n < 2 || n > LARGEST_QUADRATIC || matrix->ndim != 3 || matrix->shape[1] != n || matrix->shape[2] != n ||
        matrix->stride[1] != n || matrix->stride[2] != 1)
        return refuse();
    return end(&call, chosen->quadratic, args[2]);
}

PyMethodDef gradient_methods[] = {
    METHOD(rosenbrock, "rosenbrock(params, loss, gradient, curvature)"),
    METHOD(ellipse, "ellipse(params, loss, gradient, curvatures)"),
    METHOD(booth, "booth(params, loss, gradient, map, offset)"),
    METHOD(quadratic, "quadratic(params, loss, gradient, matrix)"),
    {NULL, NULL, 0, NULL},
};
