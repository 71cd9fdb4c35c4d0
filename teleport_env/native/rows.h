/* Where the numbers of runs lie: the names of `teleport_env.bookkeeping`, in the same order, which a test holds. */
#ifndef TELEPORT_ENV_ROWS_H
#define TELEPORT_ENV_ROWS_H

#define FLOAT_ROWS(ROW)                                                                                              \
    ROW(loss) ROW(grad_norm2) ROW(turn2) ROW(last_decrease) ROW(last_grad_decrease) ROW(cosine) ROW(alignment)       \
    ROW(curvature) ROW(log_loss) ROW(log_grad_norm2) ROW(log_update_norm) ROW(log_initial_loss)                      \
    ROW(log_initial_grad_norm2) ROW(log_rate) ROW(log_base_rate) ROW(grad_norm) ROW(turn_length) ROW(update_norm)    \
    ROW(initial_loss) ROW(initial_grad_norm2) ROW(learning_rate) ROW(base_rate) ROW(teleport_gain) ROW(loss_change)  \
    ROW(limit)
#define INTEGER_ROWS(ROW) ROW(steps) ROW(since_teleport) ROW(updates) ROW(teleports) ROW(attempts) ROW(status)
#define DERIVED_ROWS(ROW)                                                                                            \
    ROW(log_tolerance) ROW(relative_update) ROW(rate_times_curvature) ROW(share_left) ROW(log_left) ROW(price)       \
    ROW(log_since_teleport) ROW(log_attempts) ROW(refused)

#define AS_FLOAT(name) F_##name,
#define AS_INTEGER(name) I_##name,
#define AS_DERIVED(name) D_##name,
enum { FLOAT_ROWS(AS_FLOAT) FLOATS };
enum { INTEGER_ROWS(AS_INTEGER) INTEGERS };
enum { DERIVED_ROWS(AS_DERIVED) DERIVED };
#define COUNTED I_teleports /* integers that every step raises come before this one */

#define AS_NAME(name) #name " "

#endif
