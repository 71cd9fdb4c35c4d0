"""Figure 4: classification of digits in mini-batches, one teleport right after the first epoch (Algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from teleport_env.agents.reproduction.classification_runs import (
    BATCH,
    FORMS,
    NAMES,
    Dataset,
    Tuned,
    better,
    datasets,
    effect,
    final,
    interval,
    paired,
    play_optimizer,
    tune,
)
from teleport_env.agents.reproduction.course import Course
from teleport_env.agents.reproduction.pictures import COLOURS, band, panels
from teleport_env.agents.reproduction.results import Findings, Row, Setup, verdict


def _rows(data: Dataset, played: Mapping[str, Mapping[str, Course]], tuned: Tuned) -> list[Row]:
    first = next(iter(played))
    effects = {label: effect(played[first][label]) for label in FORMS.values()}
    rows = [
        Row(
            claim=f"{data.label}: a teleport leaves the loss unchanged",
            obtained="; ".join(
                f"{label}: {e['batch'].max():.0e} on its mini-batches, training loss times {np.median(e['set']):.3g} "
                f"(up to {e['set'].max():.3g})"
                for label, e in effects.items()
            ),
            holds="partly",
            why=f"General linear actions are exact on the {BATCH} images they are built from, and on those alone. "
            "The published "
            "form also projects the weights onto the span of the batch. Scaling is exact for all data.",
        ),
        Row(
            claim=f"{data.label}: the gradient is longer after the teleport",
            obtained="median growth of the norm, at the ascent rates above: "
            + "; ".join(f"{label} {np.median(e['growth']):.2f}" for label, e in effects.items()),
            holds="yes" if all(np.median(e["growth"]) > 1.005 for e in effects.values()) else "partly",
            why="Larger ascent rates make it as long as one likes, and the run diverges; small ones hardly change it.",
        ),
    ]
    for optimizer, courses in played.items():
        rows.append(_training(data, optimizer, courses, tuned.rates[optimizer]))
        rows.append(_validation(data, optimizer, courses))
    return rows


EARLY = 2
"""The epoch after which a teleport's first effect is measured: one after the teleport."""


def _training(data: Dataset, optimizer: str, courses: Mapping[str, Course], rate: float) -> Row:
    base = courses["no teleport"]
    labels = [label for label in courses if label != "no teleport"]
    moving = [label for label in labels if label != "reset alone"]
    early, late = ([label for label in moving if better(courses[label], base, e)] for e in (EARLY, -1))
    claim = (
        "a teleport speeds training up" if optimizer in ("gd", "adagrad") else "so it does (the paper's future work)"
    )
    told = [
        f"{label} {interval(courses[label], base, epoch=EARLY)} and {interval(courses[label], base)}"
        for label in labels
    ]
    best = max(len(early), len(late))
    single = data.seeds == 1
    return Row(
        claim=f"{data.label}, {NAMES[optimizer]}: {claim}",
        obtained=f"training loss after epochs {EARLY} and {data.epochs} without: {_mean(final(base, epoch=EARLY))} and "
        f"{_mean(final(base))}; log10 against it: {'; '.join(told)}",
        holds="not comparable" if single else "yes" if best == len(moving) else "partly" if best else "no",
        why=f"Learning rate {rate:g}. "
        + (
            "One seed: no interval."
            if single
            else f"Below plain with 95 % confidence after epoch {EARLY}: {', '.join(early) or 'none'}; at the end: "
            f"{', '.join(late) or 'none'}. About one of forty comparisons is so by chance."
        ),
    )


def _validation(data: Dataset, optimizer: str, courses: Mapping[str, Course]) -> Row:
    base = courses["no teleport"]
    labels = [label for label in courses if label != "no teleport"]
    ends = [paired(courses[label], base, "validation_loss") for label in FORMS.values()]
    if optimizer == "gd":
        claim, checks = "a teleport hardly changes it", [abs(middle) < max(half, 0.05) for middle, half in ends]
    elif optimizer == "adagrad":
        claim, checks = "a teleport makes it worse", [middle > half for middle, half in ends]
    else:
        claim, checks = "(the paper does not say)", []
    return Row(
        claim=f"{data.label}, {NAMES[optimizer]}, validation loss: {claim}",
        obtained=f"{_mean(final(base, 'validation_loss'))} without at the end; log10 against it: "
        + "; ".join(f"{label} {interval(courses[label], base, 'validation_loss')}" for label in labels),
        holds=verdict(checks) if checks and data.seeds > 1 else "not comparable",
        why="" if data.seeds > 1 else "One seed: no interval.",
    )


def _mean(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.mean():.3g}" if len(finite) else "diverged"


def _frame(data: Dataset, played: Mapping[str, Mapping[str, Course]]) -> pd.DataFrame:
    rows = []
    for optimizer, courses in played.items():
        for label, course in courses.items():
            for step, values in course.measured:
                for seed in range(len(values["training_loss"])):
                    rows.append(
                        {"data": data.label, "optimizer": optimizer, "schedule": label, "seed": seed}
                        | {"epoch": step / data.epoch, **{name: value[seed] for name, value in values.items()}}
                    )
    return pd.DataFrame(rows)


def _picture(data: Dataset, played: Mapping[str, Mapping[str, Course]], optimizers: Sequence[str]) -> Figure:
    with panels(len(optimizers), 4, width=12.0, height=2.9) as (figure, axes):
        for row, optimizer in enumerate(optimizers):
            part = axes[4 * row : 4 * row + 4]
            for (label, course), colour in zip(played[optimizer].items(), COLOURS, strict=False):
                for axis, name in zip(part, ("training_loss", "validation_loss"), strict=False):
                    steps, values = course.measurements(name)
                    band(axis, steps / data.epoch, values, label, colour)
                norms = course.grad_norm[1:]
                whole = len(norms) // data.epoch
                means = norms[: whole * data.epoch].reshape(whole, data.epoch, -1).mean(axis=1)
                band(part[2], np.arange(1, whole + 1), means, label, colour)
            for axis, title in zip(part, ("training loss", "validation loss", "gradient norm"), strict=False):
                axis.set(yscale="log", title=f"{NAMES[optimizer]}: {title}", xlabel="epoch")
                axis.axvline(1, color="#BBBBBB", linewidth=0.8, linestyle=(0, (2, 2)))
            for place, label in enumerate(FORMS.values()):
                found = effect(played[optimizer][label])
                # not on a logarithmic axis that starts at nothing: ratios about 1 with the worst seed marked
                part[3].plot(
                    np.full(len(found["set"]), place), found["set"], "o", color=COLOURS[place + 1], markersize=4
                )
            part[3].axhline(1.0, color="#111111", linewidth=0.8)
            part[3].set_xticks(range(len(FORMS)), list(FORMS.values()))
            part[3].set(yscale="log", xlim=(-0.5, 2.5), title="all data: after / before")
            part[0].legend(fontsize=7.5)
    return figure


def classification(setup: Setup) -> Findings:
    """Figure 4."""
    rows: list[Row] = []
    pictures, tables, sentences = {}, {}, []
    known: Tuned | None = None
    for number, data in enumerate(datasets(setup)):
        optimizers = [name for name in NAMES if name in data.rates]
        tuned = tune(data, optimizers, known=known)
        known = known or tuned
        played = {optimizer: play_optimizer(data, optimizer, tuned) for optimizer in optimizers}
        stem = "figure4" if number == 0 else f"figure4_{data.problem.lower()}"
        rows += _rows(data, played, tuned)
        pictures[stem] = _picture(data, played, [name for name in ("gd", "adagrad") if name in played])
        future = [name for name in played if name not in ("gd", "adagrad")]
        if future:
            pictures[f"{stem}_future_work"] = _picture(data, played, future)
        tables[stem] = _frame(data, played)
        tables[f"{stem}_sweep"] = tuned.table
        chosen = ", ".join(
            f"{NAMES[name]} {tuned.rates[name]:g} (ascent "
            + ", ".join(f"{FORMS[form]} {tuned.ascents[name, form]:g}" for form in FORMS)
            + ")"
            for name in optimizers
        )
        swept = (
            f"the best training loss of a sweep on {data.tuning_seeds} other seeds and {data.tuning_epochs} epochs, "
            "which is told below"
            if len(tuned.table)
            else "the learning rates those of the presets, the ascent rates those of the sweep on the 8 x 8 digits"
        )
        sentences.append(
            f"{data.label}: batch {BATCH}, {data.epochs} epochs of {data.epoch} steps, seeds: {data.seeds}; learning "
            "and ascent rates "
            f"are ours, {swept}: {chosen}. The gradient norm in the picture is its mean over an epoch's mini-batches."
        )
        if len(tuned.table):
            sentences.append(sweep_sentence(data.label, tuned.table))
    published = (
        "Published: MNIST, 784-512-512-10, 48,000 images, batch 20, 80 epochs, one teleport right after the first "
        "epoch on 4 mini-"
        "batches with 10 ascent steps each. MNIST needs its files (`--data-dir`, or the folder `TELEPORT_ENV_DATA` "
        "names)."
    )
    return Findings(rows, pictures, tables, [published, *sentences])


def sweep_sentence(label: str, table: pd.DataFrame) -> str:
    """Every setting that a sweep tried, with its training loss."""

    def told(part: pd.DataFrame, name: str) -> str:
        return ", ".join(
            f"{rate:g}: {loss:.3g}" if np.isfinite(loss) else f"{rate:g}: diverges"
            for rate, loss in zip(part[name], part["loss"], strict=True)
        )

    found = []
    for optimizer, part in table.fillna({"symmetry": ""}).groupby("optimizer", sort=False):
        plain = told(part[part["symmetry"] == ""], "learning_rate")
        ascents = "; ".join(
            f"{FORMS[str(form)]} {told(rows, 'ascent_rate')}"
            for form, rows in part[part["symmetry"] != ""].groupby("symmetry", sort=False)
        )
        found.append(f"{NAMES[str(optimizer)]} learning rates {plain}; ascent rates {ascents}")
    return f"{label}, the sweep (mean training loss at its end). " + ". ".join(found) + "."
