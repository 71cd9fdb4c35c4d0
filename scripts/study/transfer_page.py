"""The page of the comparison of transfers: tables, verdicts and effort, all computed from what was played."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from study.findings import Finding, text
from study.transfer import BUDGETS, FAMILIES, RATES, SIZES, Carried
from study.transfer_work import CARRIED, LEFT_OUT, LONGER, OWN, OWN_FIXED, PLAIN
from teleport_env.agents.comparison import statistics
from teleport_env.agents.comparison.statistics import Interval

_BEGINS = {
    False: "The policies learn from nothing, at 1/4, 1 and 4 times the rates of plain descent.",
    True: "The policies begin as clones of those for single problems, and learn at 1/4, 1 and 4 times their rates.",
}
_ABOUT = {
    FAMILIES: (
        "One problem left out",
        "For each problem a policy for all others, and a fixed schedule with the best mean over all others (each problem "
        "the same weight), both played on the one left out. A schedule is carried in units that problems share: a slot for "
        "coordinate changes and one for networks, how many step actions are preceded by a teleport, interval, warm-up and "
        "decay as shares of the budget, the base rate as a multiple of that of plain descent. Of the problem left out "
        "only the rate of plain descent is tuned (train split), and both begin from it. Steps of an action and symmetry "
        "are not its recipe's: one step, and a symmetry that the others' recipes name. Kin, "
        "which are alike but for dimension, shift and scale, are left out together: Rosenbrock with RosenbrockND, Quadratic "
        "with Booth. The last columns are for orientation: these were trained or tuned on the problem itself.",
    ),
    BUDGETS: (
        "A longer budget",
        "The policies for single problems at multiples of the budget that they were trained on. The fixed schedules are "
        "tuned on the problem, with its full menu, at the ordinary budget and at the longer one.",
    ),
    RATES: (
        "Another learning rate",
        "The policies for single problems and the fixed schedules tuned on the problem, each from a multiple of its own "
        "base rate. *Loses*: what it gains at its own rate minus what it gains here, on the same episodes.",
    ),
    SIZES: (
        "Another size of network",
        "The policies for single problems on other sizes, at their own base rate times the ratio of plain descent's tuned "
        "rates (that size over the ordinary one); the fixed schedules were tuned at the ordinary size and have their "
        "rate scaled alike.",
    ),
}


def write_transfer(found: Carried) -> dict[str, Any]:
    """Write the page where the settings say.

    Returns:
        ``findings``, and ``markdown`` (the page's path).
    """
    transfer = found.transfer
    results = Results(found)
    verdicts = verdicts_of(results)
    path = transfer.page or transfer.out / "transfer.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [*_head(found, verdicts)]
    tables = {FAMILIES: _families, BUDGETS: _budgets, RATES: _rates, SIZES: _sizes}
    for question in transfer.questions:
        title, about = _ABOUT[question]
        if question == FAMILIES:
            about += " " + _BEGINS[transfer.cloned]
        lines += [f"## {title}", "", about, "", *tables[question](results), ""]
    lines += [*_effort(found)]
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return {"findings": verdicts, "markdown": path}


class Results:
    """The episodes of a run, compared in pairs."""

    def __init__(self, found: Carried) -> None:
        self.found = found
        self._gained = {
            key: {(row["seed"], row["instance_id"]): float(row["gained"]) for row in rows}
            for key, rows in found.played.items()
        }

    def variants(self, question: str, problem: str) -> list[str]:
        """Budgets, factors or sizes that a problem was played at."""
        return list(dict.fromkeys(key[2] for key in self._gained if key[:2] == (question, problem)))

    def agents(self, question: str, problem: str, variant: str = "") -> list[str]:
        """Who played."""
        return [key[3] for key in self._gained if key[:3] == (question, problem, variant)]

    def mean(self, question: str, problem: str, variant: str, agent: str) -> float:
        """Mean orders of magnitude gained."""
        return float(np.mean([*self._gained[question, problem, variant, agent].values()]))

    def diverged(self, question: str, problem: str, variant: str, agent: str) -> float:
        """Share of episodes."""
        return float(np.mean([row["diverged"] for row in self.found.played[question, problem, variant, agent]]))

    def teleports(self, question: str, problem: str, variant: str, agent: str) -> float:
        """Of an episode."""
        return float(np.mean([row["teleports"] for row in self.found.played[question, problem, variant, agent]]))

    def difference(self, question: str, problem: str, first: tuple[str, str], second: tuple[str, str]) -> Interval:
        """Mean of the first minus the second, each a variant and an agent, over the same episodes, with its interval."""
        x, y = self._gained[question, problem, *first], self._gained[question, problem, *second]
        keys, left, right = statistics.match_pairs(x, [*x.values()], y, [*y.values()], (first[1], second[1]))
        return interval(left - right, keys)


def interval(values: np.ndarray, keys: Sequence[tuple[int, int]]) -> Interval:
    """Mean and 95 % interval over seeds and instances."""
    seeds, instances = [seed for seed, _ in keys], [instance for _, instance in keys]
    return statistics.crossed_bootstrap(
        values, seeds, instances, statistic=statistics.mean, rng=np.random.default_rng(0)
    )


# -- verdicts ----------------------------------------------------------------------------------------------------------


def verdicts_of(results: Results) -> list[Finding]:
    """What holds, question by question."""
    transfer = results.found.transfer
    found: list[Finding] = []
    if FAMILIES in transfer.questions:
        versus = {
            problem: results.difference(FAMILIES, problem, ("", LEFT_OUT), ("", CARRIED))
            for problem in transfer.problems
        }
        for problem, one in versus.items():
            target = f"{problem} left out: not significantly below the best fixed schedule tuned on the other families"
            found.append(Finding(target, _yes(one.high >= 0), text(one)))
        above = [problem for problem, one in versus.items() if one.low > 0]
        below = [problem for problem, one in versus.items() if one.high < 0]
        detail = f"significantly above on {_listed(above, versus)}; significantly below on {_listed(below, versus)}"
        target = "Left out, each in turn: nowhere significantly below the best fixed schedule tuned on the others"
        found.append(Finding(target, _yes(not below), detail))
    pairs = {
        BUDGETS: {
            "At a longer budget: nowhere significantly below the fixed schedule of the ordinary one": OWN_FIXED,
            "At a longer budget: nowhere significantly below the fixed schedule tuned for it": LONGER,
        },
        RATES: {
            "At another rate: nowhere significantly below the fixed schedule at its rate off by as much": OWN_FIXED
        },
        SIZES: {"At another size: nowhere significantly below the fixed schedule carried there": OWN_FIXED},
    }
    for question in transfer.questions:
        for target, other in pairs.get(question, {}).items():
            versus = {
                f"{problem} {_named(question, variant)}": results.difference(
                    question, problem, (variant, OWN), (variant, other)
                )
                for problem in transfer.problems
                for variant in results.variants(question, problem)
                if (question, variant) != (RATES, "1")  # its own rate is no transfer
            }
            if not versus:
                found.append(Finding(target, "not measured", ""))
                continue
            below = [name for name, one in versus.items() if one.high < 0]
            above = [name for name, one in versus.items() if one.low > 0]
            named = "; ".join(f"{name} {text(versus[name])}" for name in below)
            detail = f"significantly above in {len(above)} of {len(versus)} cases, below in {len(below)}"
            found.append(Finding(target, _yes(not below), f"{detail}: {named}" if below else detail))
    return found


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _listed(names: Sequence[str], of: Mapping[str, Any]) -> str:
    return f"{len(names)} of {len(of)}" + (f" ({', '.join(names)})" if names else "")


def _named(question: str, variant: str) -> str:
    return {BUDGETS: f"budget x {variant}", RATES: f"rate x {variant}"}.get(question, variant)


# -- tables ------------------------------------------------------------------------------------------------------------


def _head(found: Carried, verdicts: Sequence[Finding]) -> Iterator[str]:
    transfer = found.transfer
    yield from ("# Learned schedules where they were not trained", "", "```", f"python {found.command}", "```", "")
    if transfer.split != "test":
        yield (
            f"**A rehearsal on the {transfer.split} split, which is not held out:** these figures are no result. Policies "
            "are kept, and everything else is tried out, on validation instances."
        )
        yield ""
    alone = "" if transfer.train_seeds > 1 else ": with one training seed they say nothing of other trainings"
    made = ", ".join(f"{name} {version}" for name, version in found.versions.items() if name != "platform")
    yield (
        f"{transfer.instances} instances of the {transfer.split} split a problem, {transfer.train_seeds} training "
        f"{'seed' if transfer.train_seeds == 1 else 'seeds'}; {made}. Written by the command."
    )
    yield ""
    yield (
        "*Gained*, and every other figure without a unit, is in orders of magnitude of the loss at equal cost; a diverged "
        "run counts as -2. Everyone plays the same instances. Intervals are 95 %, over training seeds and instances, "
        f"both resampled whole{alone}."
    )
    yield from ("", "## What holds", "", "| target | holds | figures |", "|---|---|---|")
    for one in verdicts:
        yield _line([one.target, one.holds, one.detail])
    yield ""


def _families(results: Results) -> Iterator[str]:
    found = results.found
    further = list(
        dict.fromkeys(
            agent
            for problem in found.transfer.problems
            for agent in results.agents(FAMILIES, problem)
            if agent not in (LEFT_OUT, CARRIED, PLAIN)
        )
    )
    heads = ["left out", PLAIN, CARRIED, f"**{LEFT_OUT}**", "minus the fixed schedule", "minus plain descent"]
    yield from _header([*heads, "diverged, the fixed schedule", "teleports, the fixed schedule", *further])
    for problem in found.transfer.problems:
        cells = [problem, *(f"{results.mean(FAMILIES, problem, '', agent):.2f}" for agent in (PLAIN, CARRIED))]
        cells.append(f"**{results.mean(FAMILIES, problem, '', LEFT_OUT):.2f}**")
        cells += [
            text(results.difference(FAMILIES, problem, ("", LEFT_OUT), ("", other))) for other in (CARRIED, PLAIN)
        ]
        both = [(FAMILIES, problem, "", agent) for agent in (LEFT_OUT, CARRIED)]
        cells.append(", ".join(f"{results.diverged(*key):.1%}" for key in both))
        cells.append(", ".join(f"{results.teleports(*key):.1f}" for key in both))
        played = results.agents(FAMILIES, problem)
        cells += [f"{results.mean(FAMILIES, problem, '', name):.2f}" if name in played else "" for name in further]
        yield _line(cells)
    yield ""
    yield "The schedules that were carried, and where they were played:"
    yield ""
    for problem in found.transfer.problems:
        config, place = found.tuned[CARRIED, problem]["config"], found.grounds[problem]
        chosen = ", ".join(f"{name} {_setting(value)}" for name, value in sorted(config.items()))
        yield (
            f"* {_others(found, problem)}: {chosen}. On {problem}: rate {place.rate:.4g}, "
            f"{place.steps_per_action} steps an action, symmetry {place.symmetry}"
        )


def _budgets(results: Results) -> Iterator[str]:
    others = (OWN_FIXED, LONGER)
    yield from _header(["problem", "budget", *others, f"**{OWN}**", *(f"minus {name}" for name in others), "diverged"])
    for problem, variant in _cases(results, BUDGETS):
        budget = float(variant) * results.found.transfer.budget_of(problem)
        cells = [problem, f"{variant} x, {budget:g}"]
        cells += [f"{results.mean(BUDGETS, problem, variant, name):.2f}" for name in others]
        cells.append(f"**{results.mean(BUDGETS, problem, variant, OWN):.2f}**")
        cells += [text(results.difference(BUDGETS, problem, (variant, OWN), (variant, name))) for name in others]
        cells.append(f"{results.diverged(BUDGETS, problem, variant, OWN):.1%}")
        yield _line(cells)


def _rates(results: Results) -> Iterator[str]:
    heads = ["problem", "rate", OWN_FIXED, f"**{OWN}**", "learned minus fixed", "learned loses", "fixed loses"]
    yield from _header([*heads, "diverged, the fixed schedule"])
    for problem, variant in _cases(results, RATES):
        cells = [problem, f"x {variant}", f"{results.mean(RATES, problem, variant, OWN_FIXED):.2f}"]
        cells.append(f"**{results.mean(RATES, problem, variant, OWN):.2f}**")
        cells.append(text(results.difference(RATES, problem, (variant, OWN), (variant, OWN_FIXED))))
        for name in (OWN, OWN_FIXED):
            lost = results.difference(RATES, problem, ("1", name), (variant, name))
            cells.append("" if variant == "1" else text(lost))
        cells.append(", ".join(f"{results.diverged(RATES, problem, variant, name):.1%}" for name in (OWN, OWN_FIXED)))
        yield _line(cells)


def _sizes(results: Results) -> Iterator[str]:
    heads = ["problem", "size", "rate of plain descent, of the ordinary one", PLAIN, OWN_FIXED, f"**{OWN}**"]
    yield from _header([*heads, "learned minus fixed", "minus plain descent", "diverged, the fixed schedule"])
    rates = results.found.rates
    for problem, variant in _cases(results, SIZES):
        cells = [problem, f"{variant} ({_shape(results.found.transfer.shapes[problem][variant])})"]
        cells.append(f"x {rates[problem, variant]['rate'] / rates[problem, '']['rate']:.3g}")
        cells += [f"{results.mean(SIZES, problem, variant, name):.2f}" for name in (PLAIN, OWN_FIXED)]
        cells.append(f"**{results.mean(SIZES, problem, variant, OWN):.2f}**")
        for name in (OWN_FIXED, PLAIN):
            cells.append(text(results.difference(SIZES, problem, (variant, OWN), (variant, name))))
        cells.append(", ".join(f"{results.diverged(SIZES, problem, variant, name):.1%}" for name in (OWN, OWN_FIXED)))
        yield _line(cells)


def _cases(results: Results, question: str) -> Iterator[tuple[str, str]]:
    for problem in results.found.transfer.problems:
        for variant in results.variants(question, problem):
            yield problem, variant


def _effort(found: Carried) -> Iterator[str]:
    yield from ("## What it took", "")
    yield from _header(["what", "problem", "schedules tried", "episodes", "decisions, all seeds", "edges"])
    for (kind, problem), one in found.tuned.items():
        if kind == CARRIED and problem != found.transfer.together(problem)[0]:
            continue  # its kin has the same
        where = _others(found, problem) if kind == CARRIED else problem
        edges = ", ".join(one["edges"]) or "none"
        yield _line([kind, where, f"{one['tried']:,}", f"{one['episodes']:,}", "", edges])
    for (kind, problem), trained in found.trained.items():
        if kind == LEFT_OUT and problem != found.transfer.together(problem)[0]:
            continue
        where = _others(found, problem) if kind == LEFT_OUT else problem
        yield _line([kind, where, "", "", f"{sum(one['decisions'] for one in trained):,}", ""])
    episodes = sum(one["episodes"] for one in found.rates.values())
    yield ""
    yield f"The rates of plain descent took {episodes:,} episodes of the train split."
    if found.transfer.teachers is not None:
        yield "The policies for single problems are those of a full protocol, whose effort stands on its page."
    if found.retaught:
        yield (
            f"The policies of {', '.join(found.retaught)} have another menu than the slots, so that teachers were trained "
            "with that menu."
        )


def _others(found: Carried, problem: str) -> str:
    return f"all but {' and '.join(found.transfer.together(problem))}"


def _header(names: Sequence[str]) -> Iterator[str]:
    yield _line(names)
    yield "|" + "---|" * len(names)


def _shape(shape: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {'-'.join(map(str, value)) if isinstance(value, (tuple, list)) else value}"
        for name, value in shape.items()
    )


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
