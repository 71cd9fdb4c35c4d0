"""The published experiments (Zhao et al., NeurIPS 2022) as environments and the schedules that were played on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from teleport_env.agents.schedules import AtSteps
from teleport_env.envs.settings import Settings
from teleport_env.problems import PROBLEMS, MLPRegression
from teleport_env.problems.classification import Classification
from teleport_env.problems.data import DataMissing
from teleport_env.reading import entries, integer, known, number, refuse, shown
from teleport_env.registration import id_of


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published experiment.

    Attributes:
        problem: Registered name.
        agent: The published schedule; its ``environment`` is `arguments`.
        steps: Gradient steps of the published run, or the most of them. The budget pays for these and more: stop here.
        source: Place in the publication, and what the publication leaves open.
    """

    problem: str
    agent: AtSteps
    steps: int
    source: str

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `gym.make` and `gym.make_vec`."""
        return dict(self.agent.environment)

    @property
    def env_id(self) -> str:
        """The environment's id."""
        return id_of(self.problem)

    def make(self, **arguments: Any) -> gym.Env[Any, Any]:
        """The environment, made; ``arguments`` go before the preset's. A ``problem`` of your own goes to `paper`, whose
        schedule and rates follow it."""
        return gym.make(self.env_id, **{**self.arguments, **arguments})


@dataclass(frozen=True, kw_only=True)
class _Published:
    """An experiment as it is written down.

    Attributes:
        steps: Gradient steps, or epochs where the experiment has mini-batches.
        at: Gradient steps, or epochs, after which a teleport comes.
        sweep_steps: Most gradient steps of the experiment where its ascent is varied.
        actions: Names to symmetries, the default first; empty: the one that the problem has by default.
        ascent_rates: Ascent rates of actions whose rate is another than the search's.
        scaled: Whether both rates are multiples of `_square_rates`.
    """

    learning_rate: float
    steps: int
    at: tuple[int, ...]
    search: Mapping[str, Any]
    source: str
    optimizer: str = "gd"
    sweep_steps: int = 0
    actions: Mapping[str, str] = field(default_factory=dict)
    ascent_rates: Mapping[str, float] = field(default_factory=dict)
    mini_batches: int | None = None
    problem: Mapping[str, Any] | None = None
    scaled: bool = False


def _ascent(steps: int, rate: float, **settings: Any) -> dict[str, Any]:
    # the publication bounds no ascent and moves wherever it ended; "any" asks for no improvement
    return {
        "search": "gradient_ascent",
        "steps": steps,
        "rate": rate,
        "trust_radius": None,
        "objective": "any",
        **settings,
    }


_IMAGES = 48_000
"""Training images of the publication."""

_FIRST_ORDER_FIRST = {"first order": "general_linear_first_order", "exact": "general_linear_published"}
_OTHER_STARTS = "The reproduction counts these: `scripts/reproduce.py figure3`, in its appendix. "
_FIRST_ORDER = (
    "The action is the first-order approximation of Section 6.1, g = 1 + T and its inverse 1 - T, with layer inputs from "
    "before the move, as in the released code. It does not keep the loss: loss_change of the infos has what it takes away. "
    "The ascent climbs the objective of Algorithm 1, the gradient norm, by its derivative at the weights before each step; "
    "the first step also projects the weights, and there the released code climbs another function. The deciding rows of "
    "the reproduction's Figure 3, the regression, are of this run. action='exact' plays eq. 11 itself, with g = exp(T). "
    "A run diverges here where its loss passes the environment's limit, a multiple of its start's, which the paper's code "
    "has not. So gradient descent and AdaGrad each diverge from the second of the five starts, without a bound on the "
    "ascent, and one teleport of descent is refused. Without the limit AdaGrad comes back below its start, and gradient "
    "descent overflows. The exact row of that figure has the same starts, rates and numbers of ascent steps, "
    "but takes g = 1 + T, with its true inverse, and climbs the function of the released code: there gradient descent "
    "lasts from all five starts and AdaGrad passes the limit from the fourth, from which it would come back too. Up the "
    "gradient norm, g = 1 + T lasts from all five with both, so it is the exponential that takes the second run over the "
    "limit"
)
_CLASSIFICATION: dict[str, Any] = {
    "steps": 80,
    "at": (1,),
    "mini_batches": 4,
    "actions": {"residual": "general_linear", "exact": "general_linear_published"},
    "source": "Section 6.1: MNIST, right after the first epoch, on 4 mini-batches, with 10 ascent steps on each, by "
    "Algorithm 2. The published learning rate and ascent rate are lost in this project's copy of the text: both are this "
    "project's, and so are the residual form of the action and the Cayley transform in place of the exponential. "
    "action='exact' plays eq. 11, which also projects the weights onto the mini-batch's span. That shortens the gradient by "
    "more than the ascent lengthens it: from the first start to 0.73 of itself with SGD and 0.77 with AdaGrad, the "
    "projection alone to 0.69 and 0.72. "
    "The ascent rates are among 1, 2 and 5 times powers of ten and were chosen on the ten thousand test images. With the "
    "residual action the four teleports together lengthen the gradient by 5 % or more in the median of the starts 0 to 13. "
    "At this rate and at the next larger one all 14 runs last to step 520, of which 400 are before the first teleport. "
    "The first start lasts through all 32,000 steps, with SGD and with AdaGrad: over the last epoch the mean loss of its "
    "mini-batches is below 0.01. A test plays that where TELEPORT_ENV_DATA names the files. The growth is 1.08 with SGD and "
    "1.10 with AdaGrad. With the exact action the rate is the least by which they lengthen it "
    "by 10 % beyond what the projection does, and whose next larger one lasts a hundred steps too, from two starts of their "
    "own. The growth beyond the projection's is 1.10 with SGD and 1.11 with AdaGrad",
}

_PUBLISHED: dict[str, _Published] = {
    "Ellipse": _Published(
        learning_rate=0.05,
        steps=20,
        at=(3,),
        search=_ascent(10, 1e-3, start="random"),
        source="Figure 1, the ellipse, is a picture without settings: start, rate and schedule are this project's, the "
        "ascent is Booth's",
    ),
    "Rosenbrock": _Published(
        learning_rate=1e-3,
        steps=1000,
        at=tuple(range(99, 1000, 100)),
        search=_ascent(10, 0.1, start="random"),
        source="Section 6.1, test functions, and the released code: from (-1, -1), before steps 99, 199, ..., 999; random "
        "angles in (0, pi). Of 30,000 runs, a thousand angles of each of the seeds 0 to 29, 17 diverge: six in ten "
        "thousand. Of the thousand runs of seed 0, 80 have a teleport that shortens the gradient: 84 of 9981 teleports, all "
        "among the first five of their runs, to 0.06 of itself at the worst. The published ascent rate is so large that the "
        "first steps overshoot, and the ascent ends at a random angle: with 1e-4 in place of 0.1 and from the same angles, "
        "all teleports lengthen it in 990 of the thousand runs, and in 912 at random angles without an ascent",
    ),
    "Booth": _Published(
        learning_rate=0.08,
        steps=10,
        at=(4,),
        search=_ascent(10, 1e-3, start="random"),
        source="Section 6.1, test functions, and the released code: from (5, -5), once before step 4; random angles in "
        "(0, pi)",
    ),
    "MLPRegression": _Published(
        learning_rate=1e-4,
        steps=300,
        at=(5,),
        search=_ascent(8, 1e-7),
        source="Sections 6.1 and D.2, the settings: once before step 5, gradient descent. All five published starts last. "
        "Of 400 others "
        "that are drawn alike (split 'test'), 21 diverge and 13 more teleports are refused; with the move of the released "
        "code 16 diverge, 7 of them the same, and 2 are refused; without a teleport none diverges. "
        + _OTHER_STARTS
        + _FIRST_ORDER,
        actions=_FIRST_ORDER_FIRST,
        sweep_steps=2000,
    ),
    "MLPRegression/adagrad": _Published(
        optimizer="adagrad",
        learning_rate=0.1,
        steps=300,
        at=(5,),
        search=_ascent(2, 1e-5),
        source="Sections 6.1 and D.2, the settings: once before step 5, AdaGrad. All five published starts last. Of 400 "
        "others that are "
        "drawn alike (split 'test'), 88 diverge; with the move of the released code 66 do, 64 of them the same; without a "
        "teleport none does. " + _OTHER_STARTS + "The move takes away so much of the loss that it shortens "
        "the gradient on four of the five starts, to between 0.02 and 0.67 of itself. " + _FIRST_ORDER,
        actions=_FIRST_ORDER_FIRST,
        sweep_steps=2000,
    ),
    "MLPRegression/runtime": _Published(
        learning_rate=0.01,
        steps=300,
        at=tuple(range(10, 300, 10)),
        search=_ascent(10, 0.1, trust_radius=0.01),
        source="Figure 6, runtime: gradient descent of 300 steps with a teleport of ten ascent steps every ten, on square "
        "weights and data. The width is problem={'widths': (d, d, d, d), 'samples': d}, the depth the number of widths; "
        "other than square ones are refused. The "
        "rates are not published. These are this project's and follow width d and number of layers l: the learning rate is "
        "0.01 / (l (d / 2)^(2 l)) and the ascent rate 0.1 / (l (d / 2)^(4 l + 2)), a part of the inverse of the curvature "
        "and of the squared gradient norm at the start. The bound of 0.01 on an ascent's length is this project's too: the "
        "layer inputs of random square data are nearly singular, and longer moves make descent diverge there. At widths of "
        "16 to 128 and depths of 3 to 5, and a depth of 7 up to width 32, each of the 29 teleports lengthens the gradient, "
        "by 0.1 to 0.6 % in the median and by 3 % or more in all. At depth 3, 3 of 145 teleports of five "
        "starts shorten it at width 8, by 1.6 % at most, and 3 at width 4, by 2.1 % at most. With seven "
        "layers of width 64 or more the inputs of the upper ones are singular to rounding (condition 1e17), so "
        "that the exact action (eq. 11) cannot be computed: there "
        "gradients scatter, and at width 128 descent diverges. Times do not depend on the rates",
        actions={name: _FIRST_ORDER_FIRST[name] for name in ("exact", "first order")},
        problem={"widths": (16, 16, 16, 16), "samples": 16},
        scaled=True,
    ),
    "MNIST": _Published(
        learning_rate=0.1, search=_ascent(10, 1e-4, retract=True), ascent_rates={"exact": 1e-5}, **_CLASSIFICATION
    ),
    "MNIST/adagrad": _Published(
        optimizer="adagrad",
        learning_rate=1e-2,
        search=_ascent(10, 2e-4, retract=True),
        ascent_rates={"exact": 2e-5},
        **_CLASSIFICATION,
    ),
}
"""By the name of the problem, or that and what is other in a second experiment on it."""

PAPER: tuple[str, ...] = tuple(_PUBLISHED)
"""Names that `paper` knows."""

# Above what one ascent step of these searches costs with any symmetry, in gradient evaluations: on networks of a few dozen
# weights a pseudo-inverse weighs as much as dozens of gradients.
_ASCENT_STEP_PRICE = 100.0


def _square_rates(problem: MLPRegression) -> tuple[float, float]:
    """Inverse curvature of the loss and inverse squared gradient norm at the start of a network of equal widths, by order
    of magnitude.

    Entries uniform on [0, 1) make a matrix of width d stretch positive vectors by d / 2: the outputs have norm
    ``(d / 2)^(l + 1)``, and the weights of a layer act on them with norm ``(d / 2)^l``.
    """
    sizes = {*problem.widths, problem.samples}
    if len(sizes) > 1:
        refuse("widths of problem", "equal, and samples the same: all weights and data are square", problem.widths)
    layers, half = problem.layers.count, problem.widths[0] / 2.0
    if abs((4 * layers + 2) * math.log(half)) > 650.0:
        refuse(
            "widths of problem",
            "fewer, or narrower: rates of this many layers are no floating-point numbers",
            problem.widths,
        )
    return 1.0 / (layers * half ** (2 * layers)), 1.0 / (layers * half ** (4 * layers + 2))


def _steps_per_epoch(problem: Classification) -> int:
    """Mini-batches in the training images at hand; those of the publication where there are none."""
    batch = problem.batch_size
    try:
        count = len(problem.image_rows("paper")[0])
    except DataMissing:
        count = _IMAGES
    if batch is not None and batch > count:
        refuse("batch_size of problem", f"at most {count}, the number of training images", batch)
    return 1 if batch is None else count // batch


def paper(
    name: str,
    *,
    action: str | None = None,
    epochs: Sequence[int] | None = None,
    mini_batches: int | None = None,
    ascent_steps: int | None = None,
    ascent_rate: float | None = None,
    **arguments: Any,
) -> Preset:
    """A published experiment by name.

    The schedules of Section 6.2 and the sweep of Section D.2 are arguments: ``epochs`` and ``mini_batches`` (Figure 5), and
    ``ascent_steps`` and ``ascent_rate`` (Figure 8).

    Args:
        name: One of `PAPER`.
        action: Form of a network's action; None: the first that is named here. Of the regression ``"first order"``, which
            the paper played, or ``"exact"``, which keeps the loss: at the published rates the exact teleport may go further
            than the optimizer survives. Of MNIST ``"residual"``, which lengthens the gradient, or ``"exact"``, whose
            projection of the weights shortens it and which takes several times as long; each has an ascent rate of its own.
            Of the regression's runtime ``"exact"`` or ``"first order"``. The other experiments have one form.
        epochs: Epochs after which MNIST's runs teleport, 0 for before training (Algorithm 2's K); None: ``(1,)``.
        mini_batches: Number of mini-batches of such an epoch with a teleport each (Algorithm 2's B); None: 4.
        ascent_steps: Ascent steps per teleport; None: the published number.
        ascent_rate: Rate of these steps; None: the published one, or this project's where that is lost. Where this or
            ``ascent_steps`` is given, `Preset.steps` are the 2000 within which Figure 8 asks for convergence,
            in place of the 300 of the regression (Figure 3).
        arguments: Further keyword arguments of the environment, which go before the preset's. The length of MNIST's epochs
            follows the images of ``problem``; where no files are found it is the publication's.

    Raises:
        ValueError: There is no such experiment, no such action of it, or it has no epochs. A search does not fit the
            problem.
            An epoch is not one of the run's, a number is not positive, or the runtime's network is not square or its
            rates are no numbers. Another optimizer has no learning rate of its own.
    """
    name = known("published experiment", name, _PUBLISHED)
    found, registered = _PUBLISHED[name], name.partition("/")[0]
    environment: dict[str, Any] = {}
    if action is not None and len(found.actions) < 2:
        raise ValueError(f"action must be None for {name!r}, whose action has one form, got {action!r}; leave it out")
    search = dict(found.search)
    if found.actions:
        form = next(iter(found.actions)) if action is None else known("action", action, found.actions)
        environment["symmetry"] = found.actions[form]
        search["rate"] = found.ascent_rates.get(form, search["rate"])
    if found.problem is not None:
        environment["problem"] = dict(found.problem)
    problem: Any = Settings.build(registered, problem=arguments.get("problem", found.problem)).problem
    if not isinstance(problem, PROBLEMS[registered]):  # type: ignore[arg-type]
        refuse("problem", f"a dict of settings of {registered}, or such a problem", problem)
    learning_rate = found.learning_rate
    if found.scaled:
        inverse_curvature, inverse_square = _square_rates(problem)
        learning_rate, search["rate"] = learning_rate * inverse_curvature, search["rate"] * inverse_square
    if ascent_steps is not None:
        search["steps"] = integer("ascent_steps", ascent_steps, 1)
    if ascent_rate is not None:
        search["rate"] = number("ascent_rate", ascent_rate, above=0.0)
    replaced = (
        ("action", action, "symmetry"),
        ("ascent_steps", ascent_steps, "searches"),
        ("ascent_rate", ascent_rate, "searches"),
    )
    for what, given, by in replaced:
        if given is not None and by in arguments:
            raise ValueError(
                f"{what} must be None where {by} takes its place, got {shown(given)}; leave one of them out"
            )
    varied = ascent_steps is not None or ascent_rate is not None
    steps, at = (found.sweep_steps if varied else 0) or found.steps, found.at
    if found.mini_batches is not None:
        steps, at = _in_epochs(found, _steps_per_epoch(problem), epochs, mini_batches)
    for what, value in (("epochs", epochs), ("mini_batches", mini_batches)):
        if value is not None and found.mini_batches is None:
            raise ValueError(
                f"{what} must be None for {name!r}, which has no mini-batches, got {shown(value)}; leave it out, or play "
                "'MNIST' or 'MNIST/adagrad'"
            )
    environment |= {
        "split": "paper",
        "optimizer": found.optimizer,
        "learning_rate": learning_rate,
        "searches": [search],
        "steps_per_action": 1,
        "budget": float(1 + max(steps, found.sweep_steps) + _ASCENT_STEP_PRICE * (search["steps"] + 1) * len(at)),
        **arguments,
    }
    agent = AtSteps(name=f"published {name}", steps=at, environment=environment)
    settings = Settings.build(registered, **environment)  # refuses values that no environment takes
    if settings.optimizer.name != found.optimizer and "learning_rate" not in arguments:
        others = [one for one in _PUBLISHED if one.partition("/")[0] == registered and one != name]
        same = [repr(one) for one in others if _PUBLISHED[one].optimizer == settings.optimizer.name]
        raise ValueError(
            f"optimizer must be {found.optimizer!r} for {name!r}, whose learning rate is for it, got "
            f"{settings.optimizer.name!r}; give learning_rate too{''.join(f', or play {one}' for one in same)}"
        )
    if settings.symmetry is not None:
        for one in settings.searches:
            one.check(settings.problem, settings.problem.symmetries[settings.symmetry])
    return Preset(problem=registered, agent=agent, steps=steps, source=found.source)


def _in_epochs(
    found: _Published, epoch: int, epochs: Sequence[int] | None, mini_batches: int | None
) -> tuple[int, tuple[int, ...]]:
    """Gradient steps of the run, and step counts of the teleports of Algorithm 2, which teleports and steps on each of the
    first mini-batches of an epoch."""
    default = found.mini_batches
    if mini_batches is None and default is not None and default > epoch:
        raise ValueError(
            f"mini_batches must be given where an epoch has fewer than the published {default}, an integer of at least 1 "
            f"and at most {epoch}, got None; give it, or a smaller batch_size of problem"
        )
    count = integer("mini_batches of an epoch", default if mini_batches is None else mini_batches, 1, epoch)
    listed = entries("epochs", found.at if epochs is None else epochs, "epochs, such as (1,)")
    after = sorted(integer("an entry of epochs", one, 0, found.steps - 1) for one in listed)
    if not after or len(set(after)) < len(after):
        refuse("epochs", "one or more different epochs (for a run without teleports play `Never`)", epochs)
    return found.steps * epoch, tuple(one * epoch + batch for one in after for batch in range(count))
