"""Figure 6: what a teleport takes, against width and depth; the published formulas and ours side by side.

Times are processor times and ratios of one run: the schedules take turns, and the least of several repetitions counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import minimize_scalar, nnls

from reproduction import plain
from reproduction.classification_data import BATCH, MINI_BATCHES
from reproduction.course import play
from reproduction.pictures import panels
from reproduction.pieces import play_all
from reproduction.published import REPEATS, turns
from reproduction.regression import ASCENTS, NAMES
from reproduction.results import (
    FEWEST,
    Findings,
    Row,
    Setup,
    both_of,
    interval_of,
    note_of,
    rows,
    settings_of,
    sign,
    signed,
    subsets,
    verdict,
    within,
)
from teleport_env.agents.paper import paper
from teleport_env.agents.schedules import Every
from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.problems.mlp_regression import MLPRegression
from teleport_env.random import Streams

ASCENT_STEPS, PERIOD = 10, 10
RATE, ASCENT_RATE = 1e-7, 1e-30  # times do not depend on them; small, so that every width stays finite
COLOUR = {"published formulas": "#D55E00", "ours": "#0072B2"}


def _start(env: TeleportVectorEnv) -> np.ndarray:
    """Normal weights of variance one over the width: the problem's own, uniform on [0, 1), overflow when wide."""
    problem = env.settings.problem
    assert isinstance(problem, MLPRegression)
    draws = Streams.from_seeds([0]).normal((problem.layers.num_params,))
    return (draws / problem.layers.widths[0] ** 0.5).numpy()


def _ours(problem: MLPRegression, steps: int) -> tuple[float, float]:
    """Seconds of a gradient step and of a teleport of a single run."""
    search = {"search": "gradient_ascent", "steps": ASCENT_STEPS, "rate": ASCENT_RATE, "objective": "any"}
    environment: dict[str, Any] = {"problem": problem, "symmetry": "general_linear", "searches": [search]}
    environment |= {"learning_rate": RATE, "split": "train"}
    course = play("MLPRegression", Every(k=PERIOD, offset=PERIOD, environment=environment), steps, begin=_start)
    gaps = np.diff(course.seconds)
    jumps = np.array([jump.step - 1 for jump in course.jumps])
    step = float(np.min(np.delete(gaps, jumps)))
    return step, float(np.min(gaps[jumps])) - step


def _published(problem: MLPRegression, steps: int) -> tuple[float, float]:
    """The same of the published formulas."""
    instance = problem.instances(torch.zeros(1, dtype=torch.int64), "train")
    inputs, targets = instance["inputs"][0], instance["targets"][0]
    draws = Streams.from_seeds([0]).normal((problem.layers.num_params,)) / problem.layers.widths[0] ** 0.5
    weights = [matrix[0] for matrix in problem.layers.weights(draws)]
    stepping, jumping = [], []
    for step in range(steps):
        if step and step % PERIOD == 0:
            began = time.process_time()
            plain.teleport(weights, inputs, targets, ASCENT_STEPS, ASCENT_RATE)
            jumping.append(time.process_time() - began)
        began = time.process_time()
        weights = plain.gradient_step(weights, inputs, targets, RATE)
        stepping.append(time.process_time() - began)
    return min(stepping), min(jumping)


def _times(sizes: Sequence[tuple[int, int]], steps: int, repeats: int) -> pd.DataFrame:
    """A row per size, implementation and turn; one after the other, so that no time is taken beside another piece.

    Every turn takes all sizes: a machine that slows down would otherwise bend the times over the sizes.
    """
    pieces = {(*size, turn): (_turn, (*size, steps)) for turn in range(repeats) for size in sizes}
    taken, rows = play_all(pieces, "times", 1), []
    for width, layers in sizes:
        for name in COLOUR:
            for turn in range(repeats):
                step, jump = taken[width, layers, turn][name]
                size = {"implementation": name, "width": width, "layers": layers, "turn": turn}
                rows.append({**size, "step": step, "teleport": jump, "teleport_in_steps": jump / step})
    return pd.DataFrame(rows)


def _least(turns: pd.DataFrame) -> pd.DataFrame:
    """A row per size and implementation: the least times of the turns, and their ratio."""
    size = ["implementation", "width", "layers", "varied"]
    least = turns.groupby(size, sort=False, as_index=False)[["step", "teleport"]].min()
    return least.assign(teleport_in_steps=least["teleport"] / least["step"])


def _turn(width: int, layers: int, steps: int) -> dict[str, tuple[float, float]]:
    return _timed(MLPRegression(widths=(width,) * (layers + 1), samples=width), steps)


def _timed(problem: MLPRegression, steps: int) -> dict[str, tuple[float, float]]:
    """Seconds of a gradient step and of a teleport, by implementation."""
    return {"published formulas": _published(problem, steps), "ours": _ours(problem, steps)}


EPOCHS, IMAGES = 80, 48_000
"""Published epochs on MNIST, and images of each."""

SIGNIFICANT = 0.1
"""Share of the time of the gradient steps from which on an overhead is significant. Ours; the text gives no measure."""


def overheads() -> pd.DataFrame:
    """Time of all teleports of a published training over that of its gradient steps: a row per experiment,
    implementation and turn. MNIST's network has 512 and 512 hidden units, and squared errors here."""
    found = []
    for optimizer, preset in (("gd", paper("MLPRegression")), ("adagrad", paper("MLPRegression/adagrad"))):
        times = turns(optimizer, float(preset.arguments["learning_rate"]), REPEATS)
        for name, each in zip(COLOUR, (times["seconds"], times["seconds_here"]), strict=True):
            shares = [ASCENTS[optimizer][0] * ascent / (preset.steps * step) for step, ascent in each]
            found += [(NAMES[optimizer], name, turn, share) for turn, share in enumerate(shares)]
    network = MLPRegression(widths=(784, 512, 512, 10), samples=BATCH)
    for turn in range(FEWEST):
        for name, (step, jump) in _timed(network, PERIOD + 1).items():
            found.append(("MNIST", name, turn, MINI_BATCHES * jump / (EPOCHS * IMAGES // BATCH * step)))
    return pd.DataFrame(found, columns=["experiment", "implementation", "turn", "share"])


def overhead(frame: pd.DataFrame, name: str) -> dict[str, tuple[float, float]]:
    """Experiment -> mean share of `overheads` over the turns, and half the width of its 95 % interval."""
    return {
        str(experiment): interval_of(part["share"].to_numpy())
        for experiment, part in _of(frame, name).groupby("experiment", sort=False)
    }


def significant(shares: Mapping[str, tuple[float, float]]) -> dict[str, bool | None]:
    """Experiment -> whether an overhead is none that is significant, by the whole interval."""
    return {experiment: sign(middle - SIGNIFICANT, half) for experiment, (middle, half) in shares.items()}


def percentage(middle: float, half: float) -> str:
    """An interval of shares in words, in per cent."""
    places = 0 if middle >= 0.1 else 1
    return f"{100 * middle:.{places}f} ± {100 * half:.{places}f} %"


def sides(held: Mapping[str, bool | None]) -> str:
    """On which side of `SIGNIFICANT` the experiments lie, in words."""
    limit = f"{100 * SIGNIFICANT:.0f} %"
    words = {True: f"below {limit}", False: f"above {limit}", None: f"undecided at {limit}"}
    found = (
        f"{', '.join(experiment for experiment, one in held.items() if one is side)}: {told}"
        for side, told in words.items()
        if side in held.values()
    )
    return "; ".join(found)


def _exponent(x: ArrayLike, y: ArrayLike) -> float:
    """Slope of ``log y`` over ``log x``."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def exponent(widths: np.ndarray, ratios: np.ndarray) -> tuple[float, float]:
    """`_exponent` of ratios ``(turns, sizes)`` and half the width of its 95 % interval: that over the turns and that of the
    fit's residuals, each Student's, as the sides of a right angle; infinite for fewer than five turns or three sizes."""
    if len(widths) < 3:
        return _exponent(widths, ratios[0]), np.inf
    middle, turns = interval_of(np.array([_exponent(widths, turn) for turn in ratios]))
    across = np.log(widths) - np.log(widths).mean()
    level = np.log(ratios).mean(axis=0)
    left = (
        level - level.mean() - middle * across
    )  # of ratios that are all alike nothing, where SciPy's own error is 0 / 0
    error = np.sqrt((left @ left) / (len(widths) - 2) / (across @ across))
    return middle, float(np.hypot(turns, stats.t.ppf(0.975, len(widths) - 2) * error))


def runtime(setup: Setup) -> Findings:
    """Figure 6."""
    steps = setup.pick(full=300, quick=31, tiny=11)
    repeats = setup.pick(full=FEWEST, quick=FEWEST, tiny=1)
    more = setup.pick(full=10, quick=5, tiny=1)  # a bend is small beside the scatter of the times
    largest, deep = setup.pick(full=256, quick=256, tiny=8), setup.pick(full=128, quick=128, tiny=8)
    widths = [d for d in (8, 16, 32, 64, 128, 256) if 8 <= d <= largest and (d > 8 or setup.tiny)]
    depths = list(range(2, setup.pick(full=9, quick=7, tiny=3)))
    wide_turns = _times([(width, 3) for width in widths], steps, repeats).assign(varied="width")
    deep_turns = _times([(deep, depth) for depth in depths], steps, more).assign(varied="depth")
    by_width, by_depth = _least(wide_turns), _least(deep_turns)
    spent = pd.DataFrame() if setup.tiny else overheads()
    return Findings(
        [] if setup.tiny else _rows(wide_turns, deep_turns, deep, steps, spent),
        {"figure6": _picture(by_width, by_depth, deep)},
        {
            "figure6": pd.concat([by_width, by_depth], ignore_index=True),
            "figure6_turns": pd.concat([wide_turns, deep_turns], ignore_index=True),
            "figure6_overhead": spent,
        },
        settings_of("figure6", ascent=ASCENT_STEPS, period=PERIOD, steps=steps, repeats=repeats, more=more),
        note=note_of("figure6", steps=steps, depths=depths, deep=deep),
    )


def _of(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[frame["implementation"] == name]


DECIDES = "published formulas"
"""Whose times decide on the paper's claims, which are of its own method; ours stand beside them."""

CUBE = 3
"""Degree of the polynomial that is fitted: that of products and factorizations of square matrices."""

DEGREES = (1.0, 8.0)
"""Degrees of the single power with an offset that is fitted beside it, which has as many parameters as an exponential."""

WITHIN = 0.25
"""Distance from an exponent that counts as the exponent: half of the way to a square root's."""

BENT = 0.02
"""Departure from a line that counts as none, over the rise: half of that of the power 1.3 over two to six layers, 0.039.
That of ``l log l`` is 0.056."""

SCATTER = 0.1
"""Residual of a fit that leaves its law undecided: the largest over the rise of a line, the root mean square of a power's
relative ones."""


def _residual(terms: Sequence[np.ndarray], times: np.ndarray) -> float:
    """Root mean square of the relative fit of a sum of terms whose factors are not negative."""
    return float(nnls(np.stack([term / times for term in terms], axis=1), np.ones(len(times)))[1]) / len(times) ** 0.5


def _draws(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least times ``(D, sizes)`` of all draws of the turns with replacement, of times ``(turns, sizes)``, and their
    probabilities ``(D,)``. A loaded machine only adds to times, so that the least decide. Draws without the quietest turns
    say how far that rests on them."""
    drawn, chances = subsets(len(times))
    least, which = np.unique([times[turns].min(axis=0) for turns in drawn], axis=0, return_inverse=True)
    return least, np.bincount(which.ravel(), chances)


def _sure(verdicts: Sequence[bool | None], chances: np.ndarray) -> bool | None:
    """The verdict of 97.5 % of the draws or more, which is that of the whole 95 % interval; None where there is none."""
    share = {
        one: sum(chance for each, chance in zip(verdicts, chances, strict=True) if each is one) for one in (True, False)
    }
    return next((one for one, found in share.items() if found >= 0.975), None)


def polynomial(widths: np.ndarray, times: np.ndarray) -> bool | None:
    """Whether times ``(turns, sizes)`` grow as a polynomial of the width, by the least of the turns and its interval over
    them (`_draws`). None where fewer than `FEWEST` turns, or too many draws of them, decide nothing."""
    if len(times) < FEWEST:
        return None
    least, chances = _draws(times)
    return _sure([_polynomial(widths, one) for one in least], chances)


def _polynomial(widths: np.ndarray, times: np.ndarray) -> bool | None:
    """Whether a polynomial fits times ``(sizes,)``: of degree `CUBE`, or an offset and a power of `DEGREES`. None where
    neither it nor an offset and an exponential does, by `SCATTER`, or neither fits twice as well as the other."""
    share = widths / widths.max()
    cubic = _residual([share**power for power in range(CUBE + 1)], times)
    power = _lowest(lambda degree: _residual([np.ones_like(share), share**degree], times), DEGREES)
    exponential = _lowest(
        lambda rate: _residual([np.ones_like(share), np.exp(rate * (share - 1.0))], times), (0.5, 50.0)
    )
    powers = min(cubic, power)
    if min(powers, exponential) > SCATTER or 0.5 * exponential <= powers <= 2.0 * exponential:
        return None
    return bool(powers < exponential)


def _lowest(values: Callable[[float], float], ends: tuple[float, float]) -> float:
    """The least of a function between two ends, by a scan and then around its least."""
    places = np.geomspace(*ends, 60)
    best = int(np.argmin([values(place) for place in places]))
    around = places[max(best - 1, 0)], places[min(best + 1, len(places) - 1)]
    return float(minimize_scalar(values, bounds=around, method="bounded", options={"xatol": 1e-9}).fun)


def bend(depths: np.ndarray, times: np.ndarray) -> float:
    """Departure of the fitted parabola from its chord at the middle, over its rise: 0 for a line with any offset, positive
    for what curves up. Infinite where times do not rise."""
    share = (depths - depths.min()) / np.ptp(depths)
    square, slope, _ = np.polyfit(share, times, 2)
    return float(0.25 * square / (square + slope)) if square + slope > 0.1 * np.mean(times) else np.inf


class Bend(NamedTuple):
    """The `bend` of the least times of the turns, and the ends of its 95 % interval over all draws of them (`_draws`)."""

    least: float
    low: float
    high: float

    def __str__(self) -> str:
        low, high = (f"{100.0 * end:+.1f}" for end in (self.low, self.high))
        return f"{100.0 * self.least:+.1f} % ({low} to {high})"


def linear(depths: np.ndarray, times: np.ndarray) -> tuple[Bend, Literal[True] | None]:
    """The `Bend` of times ``(turns, depths)``, and whether they are linear: True where the whole interval lies within
    `BENT` and a parabola fits the rise of the least times, by `SCATTER`. Else None, and never False: the interval has the
    scatter of the turns of one run, and two runs gave intervals apart from each other."""
    least = times.min(axis=0)
    middle = bend(depths, least)
    if len(times) < FEWEST:
        return Bend(middle, -np.inf, np.inf), None
    drawn, chances = _draws(times)
    bends = np.array([bend(depths, one) for one in drawn])
    order = np.argsort(bends)
    low, high = bends[order][np.searchsorted(chances[order].cumsum(), (0.025, 0.975))]
    found = Bend(middle, float(low), float(high))
    if np.isinf(middle):
        return found, None
    fit = np.polyfit(depths, least, 2)
    rise = abs(np.polyval(fit, depths[-1]) - np.polyval(fit, depths[0]))
    loose = np.abs(np.polyval(fit, depths) - least).max() > SCATTER * rise and np.ptp(least) > SCATTER * np.mean(least)
    return found, True if not loose and max(-low, high) < BENT else None


def _rows(wide_turns: pd.DataFrame, deep_turns: pd.DataFrame, deep: int, steps: int, spent: pd.DataFrame) -> list[Row]:
    slopes, lines, bends, steps_bend, times, grows, locals_ = {}, {}, {}, {}, {}, {}, {}
    shares = {name: overhead(spent, name) for name in COLOUR}
    held_by = significant(shares[DECIDES])
    by_width, by_depth = _least(wide_turns), _least(deep_turns)
    checks: dict[str, dict[str, list[bool | None]]] = {}
    for name in COLOUR:
        every, tall = _of(by_width, name), _of(by_depth, name)
        wide, times[name] = every.tail(3), every["teleport_in_steps"]
        slopes[name] = _exponent(wide["width"], wide["teleport"])
        locals_[name] = np.diff(np.log(every["teleport"])) / np.diff(np.log(every["width"]))
        ratios = _of(wide_turns, name).pivot(index="turn", columns="width", values="teleport_in_steps")
        wide_turn = _of(wide_turns, name).pivot(index="turn", columns="width", values="teleport")
        grows[name] = exponent(ratios.columns.to_numpy(), ratios.to_numpy())
        pivots = (
            _of(deep_turns, name).pivot(index="turn", columns="layers", values=what) for what in ("teleport", "step")
        )
        (bends[name], straight), (steps_bend[name], also) = (
            linear(found.columns.to_numpy(float), found.to_numpy()) for found in pivots
        )
        lines[name] = _exponent(tall["layers"] - 1, tall["teleport"])
        checks[name] = {
            "width": [polynomial(wide_turn.columns.to_numpy(), wide_turn.to_numpy())],
            "depth": [straight],
            "steps": [within(*grows[name], WITHIN), both_of(straight, also)],
            "dominates": [bool((ratios.to_numpy() > PERIOD).all())],  # in every turn
            "overhead": [*significant(shares[name]).values()],
        }
    widths, repeats = [int(w) for w in _of(by_width, "ours")["width"]], wide_turns["turn"].nunique()
    more = deep_turns["turn"].nunique()
    faster = _of(by_width, DECIDES)["teleport"].to_numpy() / _of(by_width, "ours")["teleport"].to_numpy()
    otherwise = {claim: verdict(found) for claim, found in checks["ours"].items()}
    decided: dict[str, str | Sequence[bool | None]] = {**checks[DECIDES], "ours": "not comparable"}
    return rows(
        {f"figure6.{claim}": held for claim, held in decided.items()},
        globals() | locals() | {"signed": signed},
    )


def _picture(by_width: pd.DataFrame, by_depth: pd.DataFrame, deep: int) -> Figure:
    with panels(1, 3, width=11.0, height=3.4) as (figure, axes):
        unit = float(_of(by_width, "published formulas")["step"].iloc[0])  # a gradient step of the smallest network
        for name, colour in COLOUR.items():
            wide, tall = _of(by_width, name), _of(by_depth, name)
            code = "this package" if name == "ours" else name
            axes[0].plot(wide["width"], wide["teleport"] / unit, "o-", color=colour, label=f"{code}, teleport")
            axes[0].plot(wide["width"], wide["step"] / unit, "o:", color=colour, label=f"{code}, step", markersize=3)
            axes[1].plot(tall["layers"], tall["teleport"] / unit, "o-", color=colour, label=code)
            axes[2].plot(wide["width"], wide["teleport_in_steps"], "o-", color=colour, label=code)
        widths = np.array(sorted(set(by_width["width"])))
        last = float(_of(by_width, "published formulas")["teleport"].iloc[-1]) / unit
        axes[0].plot(widths, last * (widths / widths[-1]) ** 3.0, color="#AAAAAA", linewidth=1, label="cube")
        bottom = float(by_width["step"].min()) / unit
        axes[0].set(xscale="log", yscale="log", ylim=(0.5 * bottom, None), title="3 layers", xlabel="width")
        axes[0].set_ylabel("time, in steps of the smallest network")
        axes[1].set(ylim=(0, None), title=f"teleport, width {deep}", xlabel="layers")
        axes[1].set_ylabel("time, in the same unit")
        axes[2].set(xscale="log", yscale="log", title="teleport over step of the same code", xlabel="width")
        for axis in (axes[0], axes[2]):
            axis.set_xticks(widths, [str(w) for w in widths])
            axis.set_xticks([], minor=True)
        axes[0].legend(fontsize=7.5)
        axes[1].legend(fontsize=8)
    return figure
