"""Figure 4: classification of digits in mini-batches, one teleport right after the first epoch (Algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction.classification_data import BATCH, FORMS, NAMES, WITH_PROJECTION, Dataset, datasets
from reproduction.classification_measures import (
    below,
    beyond,
    effect,
    factor,
    final,
    interval,
    loses_half,
    lost_runs,
    paired,
    times,
)
from reproduction.classification_rates import LASTING, LONGER, Tuned, tune
from reproduction.classification_runs import ALONE, BOUNDED, RADIUS, STAYING, play_schedules
from reproduction.course import Course, keeps_loss, measured_frame
from reproduction.pictures import COLOURS, band, nested, panels
from reproduction.results import (
    FEWEST,
    Findings,
    Row,
    Setup,
    above,
    both_of,
    note_of,
    of_each,
    rows,
    settings_of,
    sign,
    verdict,
    within,
)

EXACT = 1e-5
"""Relative change of the loss of a mini-batch that counts as none, in single precision."""

MARGIN = 0.05
"""Of ``log10`` of a loss, 12 %: what differs by less is called alike."""

DECIDES = "published"
"""The form whose runs decide on the paper's claims: eq. 11. The others are ours, and stand beside it."""

PAPERS = ("gd", "adagrad")
"""The optimizers of the paper; Adam and RMSProp are its future work, and momentum is ours."""

SLIGHTLY = 5.0
"""Percentage points: what loses more accuracy is not slightly worse. Ours; the text gives no measure."""

EARLY = 2
"""The epoch after which a teleport's first effect is measured: one after the teleport."""


def _rows(data: Dataset, played: Mapping[str, Mapping[str, Course]], tuned: Tuned, shown: bool) -> list[Row]:
    moving = [label for label in next(iter(played.values())) if label not in STAYING]
    effects = {label: {name: effect(c[label]) for name, c in played.items() if label in c} for label in moving}
    found = [*_longer(data, effects, tuned, shown), *_kept(data, effects)]
    for optimizer, courses in played.items():
        found += _played(data, optimizer, courses, tuned.rates[optimizer], shown)
    papers = {name: played[name] for name in PAPERS if name in played}
    return [*found, *_accuracy(data, papers, shown), *_overfits(data, papers, shown)]


def _accuracy(data: Dataset, played: Mapping[str, Mapping[str, Course]], shown: bool) -> list[Row]:
    """Validation accuracy at the end against no teleport."""
    name, gaps, brief, apart = "validation_accuracy", [], [], []
    for optimizer, courses in played.items():
        base, deciding = courses["no teleport"], courses[DECIDES]
        each = (f"{label} {interval(course, base, name)}" for label, course in courses.items() if course is not base)
        plain = 100.0 * float(np.median(final(base, name)))
        gaps.append(f"{NAMES[optimizer]} ({plain:.1f} % without) {'; '.join(each)}")
        apart.append(f"{NAMES[optimizer]} {interval(deciding, courses[ALONE], name)}")
        brief.append(
            f"{NAMES[optimizer]} {interval(deciding, base, name)} ({ALONE} {interval(courses[ALONE], base, name)})"
        )
    judged = {optimizer: judge(courses, slightly_worse, name) for optimizer, courses in played.items()}
    checks, because = judgement(judged)
    literal = as_it_is(slightly_worse, played.values())
    if because == OUTWEIGHED:
        because = on_projection(apart, literal)
    return rows({"figure4.accuracy": checks}, globals() | locals())


def slightly_worse(deciding: Course, base: Course) -> bool | None:
    """Whether the validation accuracy at the end is lower, and by less than `SLIGHTLY`."""
    middle, half = paired(deciding, base, "validation_accuracy")
    return False if loses_half(deciding) else both_of(sign(middle, half), above(middle + SLIGHTLY, half))


def _overfits(data: Dataset, played: Mapping[str, Mapping[str, Course]], shown: bool) -> list[Row]:
    """How far the fit goes beyond what is known, against no teleport."""
    ratios, brief, apart = [], [], []
    for optimizer, courses in played.items():
        base = courses["no teleport"]
        shares = [f"{label} {interval(courses[label], base, 'overfit')}" for label in (*FORMS.values(), ALONE)]
        ratios.append(f"{NAMES[optimizer]} {', '.join(shares)}")
        alone = factor(paired(courses[ALONE], base, "overfit")[0], np.inf)
        brief.append(f"{NAMES[optimizer]} {times(courses[DECIDES], base, 'overfit')}, {ALONE} {alone}")
        more = factor(*paired(courses[DECIDES], courses[ALONE], "overfit"))
        apart.append(f"{NAMES[optimizer]} {more}")
    judged = {optimizer: judge(courses, overfits, "overfit") for optimizer, courses in played.items()}
    checks, because = judgement(judged)
    literal = as_it_is(overfits, played.values())
    if because == OUTWEIGHED:
        because = on_projection(apart, literal)
    return rows({"figure4.overfitting": checks}, globals() | locals())


def overfits(deciding: Course, base: Course) -> bool | None:
    """Whether the validation loss over the training loss is higher, and the validation loss no lower: what lowers both fits
    better."""
    better = sign(*paired(deciding, base, "validation_loss"))
    return None if loses_half(deciding) else both_of(above(*paired(deciding, base, "overfit")), better is not True)


def as_it_is(check: Callable[[Course, Course], bool | None], played: Iterable[Mapping[str, Course]]) -> str:
    """`results.Row.literal`: the verdict by the deciding form, whatever its projection does."""
    return verdict([check(courses[DECIDES], courses["no teleport"]) for courses in played])


def judge(
    courses: Mapping[str, Course],
    check: Callable[[Course, Course], bool | None],
    name: str = "training_loss",
    epoch: int = -1,
) -> tuple[bool | None, str]:
    """The check of the deciding form against no teleport, and why it is none: empty where it is one."""
    why = obstacle(courses, name, epoch)
    return (None, why) if why else (check(courses[DECIDES], courses["no teleport"]), "")


def judgement(judged: Mapping[str, tuple[bool | None, str]]) -> tuple[list[bool | None], str]:
    """The checks of a row (`of_each`) and the reason. What is not shown for an optimizer is an undecided check; what is not
    comparable is none."""
    checks = of_each([check] if why in ("", SAME) else [] for check, why in judged.values())
    whys: dict[str, list[str]] = {}
    for optimizer, (_, why) in judged.items():
        whys.setdefault(why or WITH_PROJECTION, []).append(NAMES[optimizer])
    if len(whys) == 1:
        return checks, next(iter(whys))
    told = "; ".join(f"{', '.join(names)}: {why[:1].lower()}{why[1:].rstrip('.')}" for why, names in whys.items())
    return checks, f"{told}."


LOST = f"Fewer than {FEWEST} runs last that could be compared."
SHORT = f"The teleports lengthen the gradient by less than {100 * (LONGER - 1):.0f} % beyond the projection."
SAME = "Against the projection alone, the interval of the effect of the teleports covers 0."
ALIKE = "The effect is not limited; that of the teleports beyond the projection is."
OUTWEIGHED = "The projection alone does more than the teleports add to it."
OFFSET = "The effect of the teleports is not limited; the projection's has the other direction, and takes from it."


def obstacle(courses: Mapping[str, Course], name: str = "training_loss", epoch: int = -1) -> str:
    """Why a verdict on a measurement cannot come from the deciding form; empty where it can. Too few runs last, its
    teleports do not lengthen the gradient beyond its projection alone, or the projection's own effect is the larger one:
    there the verdict would be on the projection, whether the teleports add to it or not. Or the interval of what they add
    covers 0, and no effect of the projection is shown that is larger."""
    deciding, control = courses[DECIDES], courses[ALONE]
    middle, half = paired(deciding, control, name, epoch)
    alone, scatter = paired(control, courses["no teleport"], name, epoch)
    if not (np.isfinite(half) and np.isfinite(scatter)):
        return LOST
    grown = beyond(effect(deciding), effect(control))
    if not np.median(grown[~(deciding.diverged | control.diverged)]) >= LONGER:
        return SHORT
    shown = abs(middle) > half
    if abs(middle) <= abs(alone) and (shown or abs(alone) > scatter):
        return OUTWEIGHED
    return "" if shown else SAME


Effects = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
"""Label -> optimizer -> what the teleport did."""


def _each(values: Mapping[str, float]) -> str:
    return ", ".join(f"{NAMES[optimizer]} {value:.3g}" for optimizer, value in values.items())


def _kept(data: Dataset, effects: Effects) -> list[Row]:
    told, sets, checks = [], [], []
    for label, found in effects.items():
        refused = np.concatenate([e["refused"] for e in found.values()])
        lost = f"; {refused.sum()} refused, in {(refused > 0).sum()} of {len(refused)} runs" if refused.any() else ""
        batch = max(float(e["batch"].max()) for e in found.values())
        whole = np.concatenate([e["set"] for e in found.values()])
        medians = {optimizer: float(np.median(e["set"])) for optimizer, e in found.items()}
        told.append(f"{label} {batch:.0e}{lost}")
        sets.append(f"{label} {_each(medians)} ({whole.min():.3g} to {whole.max():.3g})")
        if label == DECIDES:
            moved, unkept = (np.concatenate([e[name] for e in found.values()]) for name in ("moved", "unkept"))
            checks += keeps_loss(np.full(int(moved.any()), batch), unkept, EXACT)
    return rows(
        {"figure4.kept": checks, "figure4.whole": "not comparable"},
        globals() | locals() | {"RADIUS": RADIUS, "BATCH": BATCH},
    )


def _longer(data: Dataset, effects: Effects, tuned: Tuned, shown: bool) -> list[Row]:
    told: list[str] = []
    judged: list[list[bool | None]] = []
    stated: list[list[bool | None]] = []
    for label in FORMS.values():
        # what is no finite number is no longer gradient
        whole = {one: float(np.median(beyond(e, {"growth": np.ones(1)}))) for one, e in effects[label].items()}
        told.append(f"{label} {_each(whole)}")
        if label == DECIDES:
            net = {one: float(np.median(beyond(e, effects[ALONE][one]))) for one, e in effects[label].items()}
            told[-1] += f" (net of the projection {_each(net)})"
            for one, each in effects[label].items():
                alone = float(np.median(effects[ALONE][one]["growth"]))
                check: list[bool | None] = [whole[one] >= LONGER] if each["moved"].any() else []
                stated.append(check)
                judged.append(check if net[one] >= LONGER and abs(np.log(alone)) < np.log(net[one]) else [])
    checks, literal = of_each(judged), verdict(of_each(stated)) if any(stated) else ""
    medians = {
        label: {optimizer: float(np.median(e["growth"])) for optimizer, e in effects[label].items()}
        for label in (ALONE, BOUNDED)
        if label in effects
    }
    short = [
        f"{FORMS[form]} with {NAMES[optimizer]}"
        for (optimizer, form) in tuned.ascents
        if not _lengthens(tuned, optimizer, form)
    ]
    grown = np.concatenate([e["growth"] for e in effects.get(BOUNDED, effects[ALONE]).values()])
    return rows({"figure4.longer": checks}, globals() | locals())


def _lengthens(tuned: Tuned, optimizer: str, form: str) -> bool:
    """Whether the sweep's choice lengthens the gradient; also where nothing was swept."""
    if "growth" not in tuned.table:
        return True
    tried = tuned.table[(tuned.table["optimizer"] == optimizer) & (tuned.table["symmetry"] == form)]
    return bool((tried["growth"][tried["chosen"] == True] >= LONGER).all())  # noqa: E712


def _played(data: Dataset, optimizer: str, courses: Mapping[str, Course], rate: float, shown: bool) -> list[Row]:
    """Training loss, validation loss and accuracy of one optimizer's schedules."""
    base = courses["no teleport"]
    others = {label: course for label, course in courses.items() if label != "no teleport"}

    def those(lower: bool) -> str:
        return ", ".join(
            f"{label} {place}"
            for label, course in others.items()
            for place, epoch in ((f"after epoch {EARLY}", EARLY), ("at the end", -1))
            if below(course, base, epoch) is lower
        )

    deciding, control = courses[DECIDES], courses[ALONE]

    def each(name: str = "training_loss", epoch: int = -1) -> str:
        beside = {ALONE: control, "residual": courses["residual"]}
        middles = (
            f"{label} {factor(paired(course, base, name, epoch)[0], np.inf)}{lost_runs(course)}"
            for label, course in beside.items()
        )
        return f"{DECIDES} {times(deciding, base, name, epoch)}, {', '.join(middles)}"

    def beyond(name: str = "training_loss", epoch: int = -1) -> str:
        alone = factor(paired(control, base, name, epoch)[0], np.inf)
        more = factor(*paired(deciding, control, name, epoch))
        return f"The projection onto {BATCH} images alone gives a factor of {alone}; the teleport beyond it {more}."

    def literal(measured: str) -> str:
        return as_it_is(checked[measured], [courses])

    def because(measured: str, name: str = "training_loss", epoch: int = -1) -> str:
        why = whys[measured]
        if why == OUTWEIGHED:
            return on_projection([f"a factor of {factor(*paired(deciding, control, name, epoch))}"], literal(measured))
        return why or beyond(name, epoch)

    early, late = (below(deciding, base, epoch) for epoch in (EARLY, -1))
    lost = loses_half(deciding)
    names = globals() | locals() | {"final": final, "interval": interval}
    if optimizer not in PAPERS:
        return rows({"figure4.future": [early]}, names)
    loss = (np.inf, 0.0) if lost else paired(deciding, base, "validation_loss")
    if optimizer == "gd":
        claim = "its effect on the validation loss is limited"
    else:
        claim = "it is detrimental for the validation loss"
    checked: dict[str, Callable[[Course, Course], bool | None]] = {
        "training": lambda *_: early,
        "validation": lambda *_: alike(*loss) if optimizer == "gd" else above(*loss),
    }
    found = {
        "figure4.training": judge(courses, checked["training"], epoch=EARLY),
        "figure4.validation": limited(courses)
        if optimizer == "gd"
        else judge(courses, checked["validation"], "validation_loss"),
    }
    whys = {measured.split(".")[1]: why for measured, (_, why) in found.items()}
    verdicts = {measured: judgement({optimizer: one})[0] for measured, one in found.items()}
    return rows(verdicts, names | {"claim": claim, "whys": whys})


def on_projection(more: Sequence[str], literal: str) -> str:
    """The reason of a row on which the projection has the larger effect, from what the teleports add to it and the verdict
    on both together."""
    return f"As it is, {literal}; the projection outweighs what teleports add: {', '.join(more)}."


def limited(courses: Mapping[str, Course]) -> tuple[bool | None, str]:
    """Whether the effect on the validation loss is limited (`alike`), and why there is no verdict, as by `judge`. It is
    where it is one against no teleport and against the projection alone, so that no effect is a limited one. Where it is
    none against no teleport, and one against the projection, that is the projection's."""
    name, deciding = "validation_loss", courses[DECIDES]
    why = obstacle(courses, name)
    if why in (LOST, SHORT):
        return None, why
    whole, beyond = (alike(*paired(deciding, courses[base], name)) for base in ("no teleport", ALONE))
    if whole is not None and beyond is not None and whole is not beyond:
        return None, OFFSET if not beyond else why if why == OUTWEIGHED else ALIKE
    return (whole if whole is beyond else None), ""


def alike(middle: float, half: float) -> bool | None:
    """Whether an interval lies within `MARGIN` of 0 (True), outside (False), or across its edge (None)."""
    return within(middle, half, MARGIN)


def _mean(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.mean():.3g}" if len(finite) else "diverged"


def _picture(data: Dataset, played: Mapping[str, Mapping[str, Course]], optimizers: Sequence[str]) -> Figure:
    titles = {"training_loss": "training loss", "validation_loss": "validation loss", "validation_accuracy": "accuracy"}
    with panels(len(optimizers), 4, width=12.0, height=2.9) as (figure, axes):
        for row, optimizer in enumerate(optimizers):
            part, schedules = axes[4 * row : 4 * row + 4], played[optimizer]
            lines = zip(schedules.items(), COLOURS, nested(len(schedules)), strict=False)
            for (schedule, course), colour, width in lines:
                last, lost = ~course.diverged, int(course.diverged.sum())
                label = f"{schedule} ({lost} of {data.seeds} diverge)" if lost else schedule
                for axis, name in zip(part, titles, strict=False):
                    steps, values = course.measurements(name)
                    values = values[:, last] * (100.0 if "accuracy" in name else 1.0)
                    band(axis, steps / data.epoch, values, label, colour, width=width)
                norms = course.grad_norm[1:, last]
                whole = len(norms) // data.epoch
                means = norms[: whole * data.epoch].reshape(whole, data.epoch, norms.shape[1]).mean(axis=1)
                band(part[3], np.arange(1, whole + 1), means, label, colour, width=width)
            for axis, (name, title) in zip(part, titles.items(), strict=False):
                _, values = played[optimizer]["no teleport"].measurements(name)
                axis.set(title=f"{NAMES[optimizer]}: {title}", xlabel="epoch")
                if "accuracy" in name:
                    axis.set(ylabel="% of validation images", ylim=(100.0 * np.median(values[-1]) - 12.0, 100.0))
                else:
                    middle = np.median(values, axis=1)
                    axis.set(yscale="log", ylim=(0.5 * middle.min(), 1.5 * middle.max()))
            norms = schedules["no teleport"].grad_norm[1:]
            axis = part[3]
            axis.set(yscale="log", title=f"{NAMES[optimizer]}: gradient norm", xlabel="epoch")
            axis.set_ylim(0.3 * np.median(norms[-data.epoch :].mean(axis=0)), 10.0 * np.median(norms))
            for axis in part:
                axis.axvline(1, color="#BBBBBB", linewidth=0.8, linestyle=(0, (2, 2)))
            handles, labels = part[0].get_legend_handles_labels()
            part[2].legend(handles, labels, fontsize=6.5, loc="lower right")
    return figure


def classification(setup: Setup) -> Findings:
    """Figure 4."""
    claims: list[Row] = []
    pictures: dict[str, Figure] = {}
    tables: dict[str, pd.DataFrame] = {}
    sentences: list[str] = []
    found = datasets(setup)
    for number, data in enumerate(found):
        optimizers = [name for name in NAMES if name in data.rates]
        tuned = tune(data, optimizers, jobs=setup.jobs)
        played = play_schedules(data, optimizers, tuned, setup.jobs)
        stem = "figure4" if number == 0 else f"figure4_{data.problem.lower()}"
        claims += _rows(data, played, tuned, shown=number == len(found) - 1)
        # the data set of the page's rows comes first, which is the last
        pictures = {stem: _picture(data, played, [name for name in PAPERS if name in played]), **pictures}
        future = [name for name in played if name not in PAPERS]
        if future:
            pictures[f"{stem}_future_work"] = _picture(data, played, future)
        named = (
            ({"data": data.label, "optimizer": optimizer, "schedule": label}, course)
            for optimizer, courses in played.items()
            for label, course in courses.items()
        )
        tables[stem] = measured_frame(named, data.epoch)
        tables[f"{stem}_sweep"] = tuned.table
        chosen = ", ".join(
            f"{NAMES[name]} {tuned.rates[name]:g} (ascent "
            + ", ".join(f"{FORMS[form]} {tuned.ascents[name, form]:g}" for form in FORMS)
            + ")"
            for name in optimizers
        )
        longer = f"{100 * (LONGER - 1):.0f} % or more"
        swept = (
            f"the learning rates those of the presets, the ascent rates by a scan on {data.tuning_seeds} other seeds, which "
            f"follows: of those with room the one whose four teleports lengthen the gradient most (median) beyond "
            f"teleports of no length. A rate has room where it and the next larger one last {LASTING} steps, without a "
            "diverged run or a refused teleport"
            + (". Ascent steps go by the Cayley transform in place of the exponential" if data.retract else "")
            if data.by_growth
            else f"the best training loss of a sweep on {data.tuning_seeds} other seeds and {data.tuning_epochs} epochs, "
            "which follows, of the rates with room: it and the next larger one last, without a diverged run or a refused "
            f"teleport; of the ascent rates, the best of those that also lengthen the gradient by {longer} (median) "
            "beyond teleports of no length, or the one that does most"
        )
        sentences.append(
            f"{data.label}: batch {BATCH}, {data.epochs} epochs of {data.epoch} steps, seeds: {data.seeds}; learning "
            "and ascent rates "
            f"are ours, {swept}: {chosen}."
        )
        if len(tuned.table):
            sentences.append(sweep_sentence(data.label, tuned.table))
    alone = " and ".join(
        f"{float(np.median(effect(played[optimizer][ALONE])['set'])):.3g} ({NAMES[optimizer]})" for optimizer in PAPERS
    )
    note = note_of("figure4", data=found[-1], count=len(found), alone=alone)
    return Findings(claims, pictures, tables, [*settings_of("figure4", found=found), *sentences], note=note)


def sweep_sentence(label: str, table: pd.DataFrame) -> str:
    """Every setting that a sweep tried, with its training loss and, of ascent rates, the growth of the gradient."""

    def told(row: pd.Series, name: str) -> str:
        loss = "" if np.isnan(row["loss"]) else f" {row['loss']:.3g}" if np.isfinite(row["loss"]) else " diverges"
        growth = row.get("growth", np.nan)
        grown = "" if np.isnan(growth) else f" (x {growth:.3g})" if growth < 1e3 else " (x > 1000)"
        lost = ", does not last" if row.get("lasts") is False and not np.isinf(row["loss"]) else ""
        text = f"{row[name]:g}:{loss}{grown}{lost}"
        return f"**{text}**" if row.get("chosen") is True else text

    found = []
    for optimizer, part in table.fillna({"symmetry": ""}).groupby("optimizer", sort=False):
        plain = ", ".join(told(row, "learning_rate") for _, row in part[part["symmetry"] == ""].iterrows())
        ascents, edges = [], []
        for form, tried in part[part["symmetry"] != ""].groupby("symmetry", sort=False):
            ascents.append(f"{FORMS[str(form)]} " + ", ".join(told(row, "ascent_rate") for _, row in tried.iterrows()))
            if tried["chosen"].iloc[0] or (tried["chosen"].iloc[-1] and np.isfinite(tried["loss"]).any()):
                edges.append(FORMS[str(form)])
        at_edge = f" (at the edge of its grid: {', '.join(edges)})" if edges else ""
        rates = f"learning rates {plain}; " if plain else ""
        found.append(f"{NAMES[str(optimizer)]} {rates}ascent rates {'; '.join(ascents)}{at_edge}")
    measured = "mean training loss at its end" if table["loss"].notna().any() else "no losses"
    return f"{label}, the sweep ({measured}; in brackets the growth of the gradient). " + ". ".join(found) + "."
