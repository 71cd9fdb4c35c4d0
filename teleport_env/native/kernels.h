/* What the kernels have in common.

Every kernel works on runs side by side: lane i of a vector is run i, and what is done to a run is the same operations in the
same order whatever its neighbours are. So a run's bits depend neither on how many runs there are nor on the width of the
vectors. The kernels of units.inc are the exception: they work on a model's own weights, called by agents/in_place.py and by no
environment, and sum along a row in an order that depends on the width. Contractions to fused multiply-adds are off (see
pyproject.toml), so that elementwise kernels have the bits of NumPy and torch.

The bodies (*.inc) are compiled once per instruction set, by the files variant_*.c, under the name KERNEL(name).
*/
#ifndef TELEPORT_ENV_KERNELS_H
#define TELEPORT_ENV_KERNELS_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "rows.h"

/* A matrix of doubles whose rows are contiguous: row r begins at data + r * stride. */
typedef struct {
    double *data;
    int64_t stride;
    int64_t rows;
    int64_t columns;
} Matrix;

/* An array of doubles with up to three dimensions, the first of them the runs; strides in doubles. */
typedef struct {
    double *data;
    int64_t shape[3], stride[3];
    int ndim;
} Array;

/* Writes loss (B,) and gradient (B, P) at params (B, P), from a problem's own data; gradient NULL: the loss alone. */
typedef void GradientKernel(const Array *params, const Array *data, double *loss, const Array *gradient);

/* A feed-forward network, with a squared error, scale / 2 times the sum of squares, or a mean cross-entropy. */
#define MOST_LANES 8 /* the most runs of a tile */
#define MOST_LAYERS 16
#define MOST_PRODUCTS (1 << 17) /* parameters times samples, beyond which one run alone is quicker by the library's products */
typedef struct {
    int64_t layers, bias, samples, parameters, widest;
    int64_t widths[MOST_LAYERS + 1];
    double slope; /* of the hidden layers' activation below zero: 1 the identity, 0 the rectifier */
    double scale;
} Network;

/* The same for networks; inputs NULL: the identity goes in. The memory holds `network_memory` doubles, aligned to a vector. */
typedef void NetworkKernel(const Network *net, const Array *params, const Array *inputs, const Array *targets, double *loss,
                           const Array *gradient, double *memory);

/* Images (N, widths[0]) in one piece and their labels (N,), which all runs share. */
typedef struct {
    double *images;
    const int64_t *labels, *batch; /* the examples (B, samples) that each run sees */
    int64_t count, batch_stride[2];
} Examples;

/* Models of low rank: an upper matrix (rows, rank) times a lower one (rank, columns). The parameters are the lower, then the upper one. Or
the lower one has the outer products of two more factors, (rank, height) and (rank, columns / height), and the parameters are the
transposed upper one and these. */
typedef struct {
    int64_t rank, rows, columns, height; /* 0: a matrix and not a tensor */
    double scale; /* of the sum of squares */
} Factors;

/* Loss and gradient of the squared error, on the entries where `observed`, unless it is NULL, is 1, less the floor. */
typedef void FactorKernel(const Factors *factors, const Array *params, const Array *targets, const Array *floor, const Array *observed,
                          double *loss, const Array *gradient, double *memory);

#define PORTION 16 /* examples of a whole set that are worked through together */

/* The same for networks that classify a mini-batch. */
typedef void ClassifierKernel(const Network *net, const Array *params, const Examples *examples, double *loss, const Array *gradient,
                              double *memory);

/* Writes mean cross-entropy (B,) on all examples, and the share (B,) of those that are classified right. */
typedef void MeasureKernel(const Network *net, const Array *params, const Examples *examples, double *loss, double *right,
                           double *memory);

#define DRAW_TILE 64 /* random numbers that are drawn together */
#define LARGEST_QUADRATIC 64 /* dimensions up to which a form is evaluated without the library's products */
#define LARGEST_SPECTRUM 16  /* and up to which one is drawn without LAPACK */
#define LARGEST_INVERSE 8    /* rows of a matrix up to which it is inverted without LAPACK */
#define LARGEST_BALANCE 8    /* and up to which a pair of them is balanced */
#define LARGEST_CHAIN 4096   /* parameters of a chain of layers, of which a tile of runs fits into the cache */
/* The numbers of the runs, and what a step has made new. */
typedef struct {
    Matrix floats;
    int64_t *integers, integer_stride;
    uint8_t *diverged;
    Matrix accounts; /* two rows that a step raises by its price */
    double price;
    const double *loss;
    Matrix gradient, new_gradient, update; /* no update: plain descent */
    int by_rows; /* whether these are (B, P) */
    Matrix logged;
    const uint8_t *waiting; /* NULL: no run waits */
    double tiny, huge;
} Booking;

/* What coordinates a search turns: those of `teleport_env.problems` in which a loss is a squared distance. */
enum { ROSENBROCK, ELLIPSE, BOOTH, QUADRATIC };
#define TINY 2.2250738585072014e-308 /* the smallest normal number */

/* A search over rotations from where runs stand. A loss is kept up to relative |L| + rounding sqrt(|L| |scale|). */
typedef struct {
    Array params, gradient; /* (R, n) */
    const double *loss, *scale;
    double sign, relative, rounding;
    int64_t steps; /* of an ascent: so many, of these lengths, trust in all, times shrink after one that was undone */
    const double *lengths;
    double trust, shrink;
    const double *rate; /* of a choice: NULL, or learning rates by which the next step's loss is judged */
    Array angles, cosine, sine; /* (R, K, d) */
    int64_t reaches; /* of a choice along the direction of ascent, in place of angles: so many lengths, their cosines and sines */
    const double *reach, *reach_cosine, *reach_sine;
} Turns;

/* What came of it. */
typedef struct {
    Array params, gradient;
    double *loss, *score, *start_score;
} Found;

enum { BALANCE, LARGEST, RELATIVE }; /* objectives of the closed form */

/* A search over the general linear group on a chain of layers without biases, or over positive scalings of a network's hidden units. An
element is a matrix (k, k) per hidden layer, or a factor per unit. */
typedef struct {
    Network net;
    int64_t squares; /* entries of all elements */
    Array params, gradient;
    int64_t steps; /* of an ascent, of these lengths, with trust, shrink and sign as in `Turns`; or passes over the pairs */
    const double *lengths;
    double trust, shrink, sign; /* of passes: within which the logarithms of the eigenvalues of g'g stay */
    int on_weights, objective; /* of passes: whether the weights are at stake, and not the gradient */
} Chain;

/* What came of it; the loss is kept. */
typedef struct {
    Array params, gradient, elements;
    double *score, *start_score;
} Chained;

typedef void ChainKernel(const Chain *chain, const Chained *found, double *memory);

typedef void TurnKernel(int kind, const Turns *turns, const Array *data, const Found *found);
/* A search's proposal for each run, and where the run stands; then what became of it. Pointers may be NULL where a search says
   nothing, as the scale where rounding is none. */
typedef struct {
    Array params, gradient, start_params, start_gradient; /* (R, n) */
    const double *before, *after, *scale, *score, *staying, *rate_factor, *start_norm2;
    const double *squares; /* of the gradients proposed; NULL: few parameters, added up one after the other */
    double relative, rounding, huge;
    int carried, tested; /* whether the loss was carried over; whether it has to be kept */
    long long statuses[4]; /* moved, no gain, loss moved, not finite */
    Matrix found_params, found_gradient; /* each in one piece; written unless all runs moved */
    double *loss, *change, *factor, *norm2;
    uint8_t *moved;
    int64_t *status;
} Proposal;

/* What an action is paid and which episodes it ends: orders are logarithms of losses, floored. */
typedef struct {
    int64_t runs;
    const double *log_loss, *loss, *cost, *before;
    double *now, *reward, *returns;
    int64_t *actions;
    const uint8_t *diverged;
    uint8_t *terminated, *truncated, *ended;
    const uint8_t *idle; /* NULL: no run idles */
    double floor, tolerance, most_cost;
    int64_t most_actions;
    int pays; /* whether the decrease is all that is paid */
} Turn;

/* What features are computed from, and where they go. */
typedef struct {
    int64_t runs, count;
    Matrix floats;
    const int64_t *integers;
    int64_t integer_stride;
    const float *share, *left, *log_left, *cheapest, *thirds;
    int64_t thirds_count;
    const int64_t *terms; /* three places per feature */
    const float *bounds;  /* scale, lower and upper bound per feature */
    float per_budget, log_tolerance;
    float *out;
} Sight;

/* One tensor of a model, as a matrix of so many rows of so many entries, with the slots of both (see units.inc). */
typedef struct {
    int64_t count, width;
    const int64_t *rows, *columns;
    int has_rows, has_columns;
    const uint8_t *row_couplings, *column_couplings; /* for each coupling whether any of them is of its units */
} UnitTensor;

/* Hidden units of a model, coupling by coupling, and the tensors whose entries they write or read. */
typedef struct {
    int64_t tensors, units, couplings;
    const int64_t *ends; /* of each coupling's units */
    const UnitTensor *tensor;
    double *memory; /* three numbers per slot */
    void *scratch;  /* the widest row */
} Units;

/* A search for the best factors. Out come the table of the factors by slot, and squared norms of weights and gradients, each
   before and after the move. Tensors that are NULL count as zeros. */
typedef struct {
    int objective, on_weights;
    int64_t sweeps;
    double most, tiny; /* the largest square of a factor */
    void *const *params, *const *gradients;
    double *table, *squares;
} UnitSearch;

/* The kernels of one instruction set. */
typedef struct {
    const char *name;
    void (*descend)(const Matrix *params, const Matrix *gradient, const double *rate, const uint8_t *waiting);
    void (*descend_rows)(const Matrix *params, const Matrix *gradient, const double *rate, const uint8_t *waiting);
    int (*book)(const Booking *booking);
    void (*close)(const Matrix *floats, const Matrix *logs, const uint8_t *waiting);
    void (*features)(const Sight *sight);
    void (*payable)(const Matrix *costs, int64_t runs, const double *cost, double room, const uint8_t *terminated,
                    const uint8_t *truncated, uint8_t *out);
    void (*left)(const double *cost, int64_t runs, double budget, float *share, float *left, float *more);
    int (*settle)(const Turn *turn);
    void (*adopt)(const Matrix *target, const int64_t *to, const Matrix *source, const int64_t *from, int64_t count,
                  const uint8_t *constant);
    void (*adopt_rows)(const Matrix *target, const int64_t *to, const Matrix *source, const int64_t *from, int64_t count);
    void (*draw)(const uint64_t *keys, int64_t runs, uint64_t first, int64_t amount, uint64_t *bits, double *units);
    int (*judge)(const Proposal *proposal); /* whether all runs moved */
    TurnKernel *settle_turns;
    GradientKernel *rosenbrock, *ellipse, *booth, *quadratic;
    NetworkKernel *network;
    FactorKernel *factors;
    ClassifierKernel *classifier;
    MeasureKernel *measure;
    void (*spectra)(const Array *basis, const Array *eigenvalues, const Array *matrix);
    void (*balances)(const Array *a, const Array *b, double most, const Array *logs, const Array *basis);
    ChainKernel *chain_ascend, *chain_balance, *scaling_ascend, *scaling_settle;
    /* of doubles, then of floats: find factors; multiply tensors by a power (1, -1, 2 or -2) of them */
    void (*find_units[2])(const Units *units, const UnitSearch *search);
    void (*scale_units[2])(const Units *units, void *const *tensors, const double *table, int power);
} Kernels;

#endif
