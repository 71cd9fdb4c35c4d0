/* The module teleport_env.native._kernels: the kernels of the best instruction set there is, or of a lesser one that is asked for. */
#include "arguments.h"

#include <stdlib.h>
#include <string.h>

extern const Kernels kernels_plain;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

const Kernels *chosen = &kernels_plain;

static void choose(void) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
    const char *asked = getenv("TELEPORT_ENV_NATIVE");
    const int plain = asked && !strcmp(asked, "plain"), narrow = asked && !strcmp(asked, "avx2");
    __builtin_cpu_init();
    if (plain) return;
    if (!narrow && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd"))
        chosen = &kernels_avx512;
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        chosen = &kernels_avx2;
#endif
}

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, NULL, NULL, NULL, NULL, NULL};

/* The functions, by the file that checks their arguments. */
extern PyMethodDef step_methods[], gradient_methods[], turn_methods[], chain_methods[], unit_methods[];
static PyMethodDef *const all_methods[] = {step_methods, gradient_methods, turn_methods, chain_methods, unit_methods};

PyMODINIT_FUNC PyInit__kernels(void) {
    choose();
    PyObject *module = PyModule_Create(&definition);
    for (size_t i = 0; module && i < sizeof all_methods / sizeof *all_methods; i++)
        if (PyModule_AddFunctions(module, all_methods[i]) < 0) Py_CLEAR(module);
    /* what has to agree with the Python that calls */
    const char *const texts[][2] = {
        {"variant", chosen->name},
        {"float_rows", FLOAT_ROWS(AS_NAME)},
        {"integer_rows", INTEGER_ROWS(AS_NAME)},
        {"derived_rows", DERIVED_ROWS(AS_NAME)},
    };
    for (size_t i = 0; module && i < sizeof texts / sizeof *texts; i++)
        if (PyModule_AddStringConstant(module, texts[i][0], texts[i][1]) < 0) Py_CLEAR(module);
    return module;
}
