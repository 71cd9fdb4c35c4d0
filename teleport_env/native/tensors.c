#include "tensors.h"

#include <stdlib.h>

/* The structures of DLPack 1.x, https://dmlc.github.io/dlpack/latest/c_api.html, as far as they are needed. */

typedef struct {
    uint32_t major, minor;
} Version;

typedef struct {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} Exchanged;

typedef struct Managed {
    Version version;
    void *context;
    void (*deleter)(struct Managed *self);
    uint64_t flags;
    Exchanged tensor;
} Managed;

typedef struct Functions {
    Version version;
    struct Functions *previous;
    void *allocate;
    int (*lend)(void *object, Managed **out);
    int (*take)(Managed *tensor, void **object);
    int (*peek)(void *object, Exchanged *out);
    void *stream;
} Functions;

enum { CPU = 1, INTEGER = 0, FLOAT = 2 };

static PyTypeObject *tensor_type = NULL;
static const Functions *torch_functions = NULL;

/* What torch is asked before its tensors are read. */
static PyObject *dispatch_modes, *function_transforms, *is_tracing, *is_negative, *forward_mode, *level_name;

static PyObject *attribute(PyObject *object, const char *name) { return object ? PyObject_GetAttrString(object, name) : NULL; }

/* Whether torch has all of them. */
static int find_questions(PyObject *torch, PyObject *type) {
    PyObject *core = attribute(torch, "_C"), *transforms = attribute(core, "_functorch");
    PyObject *forward = PyImport_ImportModule("torch.autograd.forward_ad");
    dispatch_modes = attribute(core, "_len_torch_dispatch_stack");
    is_tracing = attribute(core, "_is_tracing");
    function_transforms = attribute(transforms, "maybe_current_level");
    is_negative = attribute(type, "is_neg");
    level_name = PyUnicode_InternFromString("_current_level");
    forward_mode = forward ? Py_XNewRef(PyModule_GetDict(forward)) : NULL;
    Py_XDECREF(core);
    Py_XDECREF(transforms);
    Py_XDECREF(forward);
    return dispatch_modes && is_tracing && function_transforms && is_negative && level_name && forward_mode &&
           PyDict_GetItemWithError(forward_mode, level_name);
}

/* Finds them once; they live as long as the process. */
static void find(void) {
    PyObject *torch = PyImport_ImportModule("torch");
    PyObject *type = attribute(torch, "Tensor"), *capsule = attribute(type, "__dlpack_c_exchange_api__");
    const Functions *found = capsule ? PyCapsule_GetPointer(capsule, "dlpack_exchange_api") : NULL;
    while (found && found->version.major != 1) found = found->previous;
    torch_functions = found && found->peek && found->take && find_questions(torch, type) ? found : NULL;
    PyErr_Clear();
    Py_XDECREF(capsule);
    Py_XDECREF(torch);
    tensor_type = (PyTypeObject *)type; /* kept */
}

/* Whether a call returns what is wanted; an exception counts as another answer. */
static int answers(PyObject *answer, PyObject *wanted) {
    if (!answer) PyErr_Clear();
    Py_XDECREF(answer);
    return answer == wanted;
}

int only_numbers_count(void) {
    if (!tensor_type) find();
    if (!torch_functions) return 0;
    PyObject *level = PyDict_GetItemWithError(forward_mode, level_name), *modes = PyObject_CallNoArgs(dispatch_modes);
    const int none = modes && PyLong_AsLong(modes) == 0 && level && PyLong_AsLong(level) < 0;
    Py_XDECREF(modes);
    PyErr_Clear();
    return none && answers(PyObject_CallNoArgs(function_transforms), Py_None) && answers(PyObject_CallNoArgs(is_tracing), Py_False);
}

/* Whether an object is a plain tensor on the CPU with numbers of a kind; then what it is.

Its memory may hold the numbers' negatives, and there is none where torch knows that all are zero. */
static int see(PyObject *object, int kind, int bits, Exchanged *seen) {
    if (!tensor_type) find();
    if (Py_TYPE(object) != tensor_type || !torch_functions) return 0;
    if (torch_functions->peek(object, seen) < 0) {
        PyErr_Clear();
        return 0;
    }
    return seen->device.type == CPU && seen->dtype.code == kind && seen->dtype.bits == bits && seen->data &&
           answers(PyObject_CallFunctionObjArgs(is_negative, object, NULL), Py_False);
}

int view_integers(PyObject *object, const int64_t **numbers, int ndim, int64_t *shape, int64_t *stride) {
    Exchanged seen;
    if (!see(object, INTEGER, 64, &seen) || seen.ndim != ndim) return 0;
    *numbers = (const int64_t *)((char *)seen.data + seen.byte_offset);
    for (int i = 0; i < ndim; i++) {
        shape[i] = seen.shape[i];
        stride[i] = seen.strides[i];
    }
    return 1;
}

int view_tensor(PyObject *object, Array *view) {
    Exchanged seen;
    if (!see(object, FLOAT, 64, &seen) || seen.ndim < 1 || seen.ndim > 3) return 0;
    *view = (Array){.data = (double *)((char *)seen.data + seen.byte_offset), .ndim = seen.ndim};
    for (int i = 0; i < seen.ndim; i++) {
        view->shape[i] = seen.shape[i];
        view->stride[i] = seen.strides[i];
    }
    return 1;
}

void *dense_numbers(PyObject *object, int bits, int64_t entries) {
    Exchanged seen;
    if (!see(object, FLOAT, bits, &seen)) return NULL;
    int64_t next = 1; /* stride of a row-major array */
    for (int i = seen.ndim - 1; i >= 0; next *= seen.shape[i--])
        if (seen.shape[i] > 1 && seen.strides[i] != next) return NULL;
    return next == entries ? (char *)seen.data + seen.byte_offset : NULL;
}

/* A tensor, its shape and its numbers in one piece of memory. */
typedef struct {
    Managed managed;
    int64_t shape[2], strides[2];
} Piece;

PyObject *refuse(void) { return PyErr_Occurred() ? NULL : Py_NewRef(Py_None); }

static void let_go(Managed *self) { free(self); }

PyObject *new_tensor(int64_t runs, int64_t entries, int columns, Array *view) {
    enum { LINE = 64 };
    Piece *piece = malloc(sizeof(Piece) + LINE + (size_t)runs * (size_t)(entries ? entries : 1) * sizeof(double));
    if (!piece) return PyErr_NoMemory();
    const int64_t along = entries && !columns ? entries : 1, down = columns ? runs : 1;
    double *data = (double *)(((uintptr_t)(piece + 1) + LINE - 1) / LINE * LINE);
    *piece = (Piece){.managed = {.version = {1, 0}, .context = piece, .deleter = let_go}, .shape = {runs, entries}, .strides = {along, down}};
    piece->managed.tensor = (Exchanged){.data = data, .ndim = entries ? 2 : 1, .shape = piece->shape, .strides = piece->strides};
    piece->managed.tensor.device.type = CPU;
    piece->managed.tensor.dtype.code = FLOAT;
    piece->managed.tensor.dtype.bits = 64;
    piece->managed.tensor.dtype.lanes = 1;
    *view = (Array){.data = data, .shape = {runs, entries, 0}, .stride = {along, down, 0}, .ndim = entries ? 2 : 1};
    void *object = NULL;
    return torch_functions->take(&piece->managed, &object) < 0 ? NULL : object;
}
