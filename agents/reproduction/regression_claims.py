"""What figure 3 claims, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from teleport_env.agents.reproduction.course import Course, longer_at_equal_loss
from teleport_env.agents.reproduction.results import Row, verdict


def mean_loss(course: Course, step: int = -1) -> float:
    """Mean loss over the seeds that have not diverged."""
    values = course.loss[step]
    return float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else np.inf


def _end(course: Course) -> str:
    """The mean at the end, and how many seeds it leaves out."""
    lost = int(course.diverged.sum())
    return f"{mean_loss(course):.4g}" + (
        f" ({lost} of {len(course.diverged)} seeds diverged and are left out)" if lost else ""
    )


def _means(course: Course, steps: Sequence[int]) -> str:
    return ", ".join(f"{mean_loss(course, step):.4g}" for step in steps)


def leak(course: Course) -> np.ndarray:
    """Share of the loss ``(B,)`` that the teleport took away."""
    return -course.jumps[0].loss_change


def _range(values: np.ndarray) -> str:
    return f"{100 * values.min():.0f}-{100 * values.max():.0f} %"


def claims(
    courses: Mapping[str, Mapping[str, Course]],
    ends: Mapping[str, Mapping[float, float]],
    best: Mapping[str, float],
    seconds: Mapping[str, np.ndarray],
) -> list[Row]:
    """The rows of figure 3.

    Args:
        courses: Optimizer -> schedule -> its runs.
        ends: Optimizer -> rate -> mean loss at the end of plain descent.
        best: Optimizer -> the rate of the lowest of them.
        seconds: Schedule of GD -> processor seconds ``(T + 1,)`` of one run.
    """
    gd, ada = courses["gd"], courses["adagrad"]
    at = (6, 10, 50, 100)
    plain, released, exact, residual = (
        gd[k] for k in ("no teleport", "released", "published, exact", "residual, exact")
    )
    ada_plain, ada_released, ada_exact = (ada[k] for k in ("no teleport", "released", "published, exact"))
    leaks = np.concatenate([leak(released), leak(ada_released)])
    kept = max(float(np.abs(leak(c[k])).max()) for c in (gd, ada) for k in ("published, exact", "residual, exact"))

    def wins(course: Course, base: Course) -> str:
        return f"lower on {(course.loss[-1] < base.loss[-1]).sum()} of 5 seeds"

    def close(value: float, reference: float) -> bool:
        return abs(value / reference - 1.0) < 0.01

    true_norm = gd["residual, exact, true norm"].loss[-1]
    jumped = exact.cost[5] - plain.cost[5]
    allowed = plain.cost[-1, 0] + 1e-6
    equal = [mean_loss(course, int((course.cost[:, 0] <= allowed).sum()) - 1) for course in (released, exact)]
    timed = [
        mean_loss(gd[label], int((seconds[label] <= seconds["no teleport"][-1]).sum()) - 1)
        for label in ("released", "published, exact")
    ]
    longer = {
        f"{name}, {label}": longer_at_equal_loss(played[label], played["no teleport"], 5)
        for name, played in (("GD", gd), ("AdaGrad", ada))
        for label in ("released", "published, exact")
    }
    return [
        Row(
            claim="GD without teleport (released code): 507.7, 280.7, 22.44, 6.345 after 6, 10, 50, 100 steps, 1.929 "
            "at the end",
            obtained=f"{_means(plain, at)}; {mean_loss(plain):.4g}",
            holds=verdict([close(mean_loss(plain), 1.929), close(mean_loss(plain, 6), 507.7)]),
        ),
        Row(
            claim="AdaGrad without teleport (released code): 122.5, 65.6, 6.95, 2.90; 1.392",
            obtained=f"{_means(ada_plain, at)}; {mean_loss(ada_plain):.4g}",
            holds=verdict([close(mean_loss(ada_plain), 1.392), close(mean_loss(ada_plain, 6), 122.5)]),
        ),
        Row(
            claim="One teleport makes GD faster and its end lower (released code: 118.2, 25.6, 2.46, 1.985; 1.580)",
            obtained=f"as released {_means(released, at)}; {mean_loss(released):.4g}, {wins(released, plain)}",
            holds=verdict([close(mean_loss(released), 1.580), mean_loss(released) < mean_loss(plain)]),
            why="To be read with the next row.",
        ),
        Row(
            claim="A teleport leaves the loss unchanged",
            obtained=f"as released it takes away {_range(leak(released))} of the loss (GD) and "
            f"{_range(leak(ada_released))} "
            f"(AdaGrad); exact {kept:.0e} at most",
            holds=verdict([bool((leaks < 1e-6).all())]),
            why="The released code replaces `(1 + T)^-1` by `1 - T` and takes the upper layer's inputs from the "
            "weights before "
            "the move. A part of the published gain is this leak.",
        ),
        Row(
            claim="With the exact action at the same rates the speed-up remains",
            obtained=f"published form {_means(exact, at)}; {_end(exact)}, {wins(exact, plain)}. Residual form "
            f"{_means(residual, at)}; {_end(residual)}, {wins(residual, plain)}",
            holds=verdict(
                [
                    mean_loss(exact, 50) < mean_loss(plain, 50),
                    mean_loss(exact) < 0.9 * mean_loss(plain),
                    mean_loss(residual) < mean_loss(plain),
                ]
            ),
            why="Faster for the first hundred steps; at the end the gain is within what one seed does. This is the "
            "exact run of "
            "139, 56, 10.4, 5.12; 1.848: published form, `1 + T`, all 8 steps, the released objective.",
        ),
        Row(
            claim="What is climbed is the gradient norm",
            obtained="with the true gradient norm, same rates: published form "
            f"{_end(gd['published, exact, true norm'])}; "
            f"residual form {(true_norm > 100).sum()} of 5 seeds run away, "
            "the others "
            f"{', '.join(f'{v:.3g}' for v in true_norm[true_norm < 100])}",
            holds="no",
            why="General linear orbits are not compact: the gradient norm has no maximum on them. From where eight "
            "unbounded steps "
            "end, the published rate of GD is too large. With the released objective the same steps stop short of "
            "that.",
        ),
        Row(
            claim="One teleport makes AdaGrad faster and its end lower (released code 25.6, 12.35, 2.48, 1.75; 1.247)",
            obtained=f"as released {_means(ada_released, at)}; {mean_loss(ada_released):.4g}, "
            f"{wins(ada_released, ada_plain)}. Exact "
            f"{_means(ada_exact, at)}; {_end(ada_exact)}, {wins(ada_exact, ada_plain)}; residual "
            f"{_end(ada['residual, exact'])}; with the true norm "
            f"{_end(ada['published, exact, true norm'])} and "
            f"{_end(ada['residual, exact, true norm'])}",
            holds=verdict(
                [mean_loss(ada_released) < mean_loss(ada_plain), mean_loss(ada_exact) < mean_loss(ada_plain)]
            ),
            why="AdaGrad's next step is up to 0.1 a weight, however long the gradient; where the exact action leads "
            "the loss is so "
            "steep that this step overshoots, and is made up for later.",
        ),
        Row(
            claim="The gain is not that of the optimizer's state",
            obtained=f"AdaGrad reset before step 5, nothing moved: {_means(ada['reset alone'], at)}; "
            f"{mean_loss(ada['reset alone']):.4g}. Exact teleport and reset: "
            f"{_end(ada['published, exact, and reset'])}",
            holds=verdict([mean_loss(ada["reset alone"]) > 0.97 * mean_loss(ada_plain)]),
            why="A control of ours; the follow-up paper rebuilds the optimizer after every teleport.",
        ),
        Row(
            claim="The gain is not that of a larger learning rate",
            obtained="no teleport, tuned: "
            + "; ".join(
                f"{name} {ends[name][best[name]]:.3g} at {best[name]:g} (published rate {value:.3g})"
                for name, value in (("gd", mean_loss(plain)), ("adagrad", mean_loss(ada_plain)))
            ),
            holds=verdict(
                [
                    ends["gd"][best["gd"]] > mean_loss(released),
                    ends["adagrad"][best["adagrad"]] > mean_loss(ada_released),
                ]
            ),
            why="A control of ours, the best of the sweep below on the same five seeds: tuning the rate is worth "
            "more than any "
            "published teleport.",
        ),
        Row(
            claim="The direction matters: up the gradient norm, not down",
            obtained="published form, descent in place of ascent: GD "
            f"{mean_loss(gd['published, exact, descent']):.4g}, AdaGrad "
            f"{mean_loss(ada['published, exact, descent']):.4g}. Ours, three short steps up / down: "
            + ", ".join(
                f"{name} {mean_loss(played['ours: three short steps up']):.4g} / "
                f"{mean_loss(played['ours: three short steps down']):.4g}"
                for name, played in (("GD", gd), ("AdaGrad", ada))
            ),
            holds=verdict(
                [
                    mean_loss(gd["published, exact, descent"]) > mean_loss(plain),
                    mean_loss(ada["published, exact, descent"]) > mean_loss(ada_plain),
                ]
            ),
            why="True for GD at a rate that is too small; for AdaGrad the way down serves too.",
        ),
        Row(
            claim="At the same loss the teleported run has the longer gradient",
            obtained="share of the losses that both pass after the teleport, median of the seeds: "
            + "; ".join(f"{name} {100 * np.nanmedian(shares):.0f} %" for name, shares in longer.items()),
            holds=verdict([bool(np.nanmedian(shares) > 0.5) for shares in longer.values()]),
        ),
        Row(
            claim="The speed-up also holds against time",
            obtained=f"one teleport of 8 ascent steps is charged {float(jumped.mean()):.0f} gradient evaluations. At "
            "the cost of "
            f"{plain.steps} plain steps: no teleport {mean_loss(plain):.4g}, released {equal[0]:.4g}, published form exact "
            f"{equal[1]:.4g}. In their processor time: released {timed[0]:.4g}, exact {timed[1]:.4g}",
            holds=verdict([value < mean_loss(plain) for value in (*equal, *timed)]),
            why="On a network of 128 weights, pseudo-inverses and second derivatives weigh as much as dozens of "
            "gradients.",
        ),
    ]
