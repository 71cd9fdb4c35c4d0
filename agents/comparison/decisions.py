"""What a policy does, made visible: its decisions over single runs, and how often it takes each action given a feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from teleport_env.agents.base import Agent
from teleport_env.agents.comparison.plots import SETTINGS, panels
from teleport_env.agents.comparison.report import Drawing
from teleport_env.agents.play import Played, play
from teleport_env.envs.features import INDEX, NAMES
from teleport_env.envs.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Decisions", "course_picture", "frequency_picture", "watch"]

_DOWN = ("#BCA5D8", "#7E57A8", "#4A2C78")  # rates that fall
_UP = ("#9ECAE1", "#4292C6", "#08519C", "#041F45")  # rates that rise
_PLAIN = "#D9D9D9"
_TELEPORTS = ("#D55E00", "#E69F00", "#CC3377", "#009E73", "#8E0152", "#999933")
_BINS = 12


@dataclass(frozen=True)
class Decisions:
    """Everything a policy decided in some episodes.

    Attributes:
        agent: The policy.
        played: Its episodes, with actions and observations.
        labels: Name of each action.
        colours: Colour in which each action is drawn.
    """

    agent: Agent
    played: Played
    labels: tuple[str, ...]
    colours: tuple[str, ...]

    def flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Features ``(N, F)`` and actions ``(N,)`` of all decisions, the ended episodes' left out."""
        assert self.played.actions is not None
        assert self.played.observations is not None
        made = self.played.actions >= 0
        return self.played.observations[made][:, : len(NAMES)], self.played.actions[made]


def watch(
    problem: str, agent: Agent, instance_ids: np.ndarray, *, split: str, budget: float | None = None, seed: int = 0
) -> Decisions:
    """Play an agent and keep what it saw and did."""
    played = play(problem, agent, instance_ids, split=split, budget=budget, seed=seed, observations=True)
    factors = [float(factor) for factor in agent.environment.get("rate_factors", (1.0,))]
    labels = Settings.build(problem, split=split, **agent.environment).action_names
    palette = {1.0: _PLAIN}
    for ranked, shades in ((sorted(f for f in factors if f > 1), _UP), (sorted(-f for f in factors if f < 1), _DOWN)):
        palette |= {abs(factor): shades[place % len(shades)] for place, factor in enumerate(ranked)}
    colours = [palette[factor] for factor in factors]
    colours += [_TELEPORTS[place % len(_TELEPORTS)] for place in range(len(labels) - len(factors))]
    return Decisions(agent, played, labels, tuple(colours))


def shares(feature: np.ndarray, actions: np.ndarray, count: int, bins: int = _BINS) -> tuple[np.ndarray, np.ndarray]:
    """How often each of ``count`` actions ``(N,)`` is taken, given a feature ``(N,)``.

    Bins hold equally many decisions; equal values stay together, so that there may be fewer than ``bins``.

    Returns:
        Ends of the bins ``(b + 1,)`` and shares ``(b, count)``, which add up to 1 in each bin.
    """
    ends, table = _joint(feature, actions, count, bins, 1.0)
    filled = table.sum(axis=1) > 0
    return np.append(ends[:-1][filled], ends[-1]), table[filled] / table[filled].sum(axis=1, keepdims=True)


def _joint(
    feature: np.ndarray, actions: np.ndarray, count: int, bins: int, weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the bins and a sum of weights per bin and action; a value that is one of few has its own bin."""
    values, place = np.unique(feature, return_inverse=True)
    ends, place = np.append(values, values[-1]), place.reshape(-1)
    if len(values) > bins:
        ends = np.unique(np.quantile(feature, np.linspace(0, 1, bins + 1), method="nearest"))
        place = np.clip(np.searchsorted(ends, feature, side="right") - 1, 0, len(ends) - 2)
    table = np.zeros((len(ends) - 1, count))
    np.add.at(table, (place, actions), weight)
    return ends, table


def information(feature: np.ndarray, actions: np.ndarray, count: int) -> float:
    """Mutual information, in bits, between a binned feature and the action: how much it tells of the decision."""
    _, joint = _joint(feature, actions, count, _BINS, 1.0 / len(actions))
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(joint > 0, joint * np.log2(joint / apart), 0.0).sum())


def main_features(decisions: Decisions, most: int = 6) -> list[tuple[str, float]]:
    """The features that tell most of the action, by `information`, the first the most."""
    seen, actions = decisions.flat()
    read = getattr(decisions.agent, "features", NAMES)
    told = [(name, information(seen[:, INDEX[name]], actions, len(decisions.labels))) for name in read]
    return sorted(told, key=lambda pair: -pair[1])[:most]


@matplotlib.rc_context(SETTINGS)
def course_picture(decisions: Decisions, episodes: Sequence[int]) -> Figure:
    """Loss, learning rate and gradient norm against compute, a column per episode; every decision marked."""
    played = decisions.played
    assert played.actions is not None
    assert played.rate is not None
    rows = (("loss", played.loss), ("learning rate", played.rate), ("gradient norm", played.grad_norm))
    figure, axes = panels(3 * len(episodes), 2.3, columns=len(episodes))
    for index, axis in enumerate(axes):
        name, values = rows[index // len(episodes)]
        row = episodes[index % len(episodes)]
        asked = played.actions[:, row]
        length = int((asked >= 0).sum())
        cost, course = played.cost[: length + 1, row], values[: length + 1, row].astype(float)
        course = np.where(np.isfinite(course) & (course > 0), course, np.nan)
        axis.plot(cost, course, color="#555555", linewidth=1.1, zorder=1)
        for action in np.unique(asked[:length]):
            at = np.flatnonzero(asked[:length] == action)
            # where the decision was made: a teleport's effect is what follows
            teleport = action >= decisions.agent.step_actions
            size, marker, order = (34, "^", 3) if teleport else (12, "o", 2)
            edge: dict[str, Any] = {"edgecolors": "#333333", "linewidths": 0.4, "zorder": order}
            axis.scatter(cost[at], course[at], s=size, marker=marker, color=decisions.colours[action], **edge)
        axis.set_yscale("log")
        if index < len(episodes):
            axis.set_title(f"instance {played.rows[row]['instance_id']}", fontsize=9)
        if index % len(episodes) == 0:
            axis.set_ylabel(name)
        if index >= 2 * len(episodes):
            axis.set_xlabel("compute (gradient evaluations)")
    used = np.unique(played.actions[:, list(episodes)])
    handles = []
    for action in used[used >= 0]:
        marker = "^" if action >= decisions.agent.step_actions else "o"
        look: dict[str, Any] = {"marker": marker, "markeredgecolor": "#333333", "markeredgewidth": 0.4, "markersize": 7}
        own: dict[str, Any] = {"color": decisions.colours[action], "label": decisions.labels[action]}
        handles.append(Line2D([], [], linestyle="none", **look, **own))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(2, len(handles)))
    return figure


@matplotlib.rc_context(SETTINGS)
def frequency_picture(decisions: Decisions) -> Figure:
    """How often each action is taken in each range of the features that tell most of it."""
    seen, actions = decisions.flat()
    chosen = main_features(decisions)
    figure, axes = panels(len(chosen), 2.3, columns=3)
    for axis, (name, bits) in zip(axes, chosen, strict=True):
        ends, table = shares(seen[:, INDEX[name]], actions, len(decisions.labels))
        edges = np.arange(len(table) + 1) - 0.5
        tops = np.cumsum(table, axis=1)
        for share, top, colour in zip(
            table.T, tops.T, decisions.colours, strict=True
        ):  # a shape per action, not per bar
            axis.stairs(top, edges, baseline=top - share, fill=True, color=colour, linewidth=0)
        axis.set_title(f"{name} ({bits:.2f} bits)", fontsize=9)
        ticks = np.unique(np.linspace(0, len(table), 5).round().astype(int))
        axis.set_xticks(ticks - 0.5, [f"{round(float(ends[tick]), 3):g}" for tick in ticks])
        axis.set_xlim(-0.5, len(table) - 0.5)
        axis.set_ylim(0, 1)
        axis.grid(visible=False)
    for axis in axes[::3]:
        axis.set_ylabel("share of decisions")
    taken = np.bincount(actions, minlength=len(decisions.labels)) / len(actions)
    handles = [
        Patch(color=colour, label=f"{label} ({share:.1%})")
        for label, colour, share in zip(decisions.labels, decisions.colours, taken, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(2, len(handles)))
    return figure


def decision_drawings(problem: str, decisions: Decisions) -> list[Drawing]:
    """Both pictures of a policy on a problem, for a report."""
    gained = np.array([row["gained"] for row in decisions.played.rows])
    ranked = np.argsort(gained, kind="stable")
    # a poor episode, a middling one and a good one, none of them the extreme
    episodes = [int(ranked[round(share * (len(ranked) - 1))]) for share in (0.1, 0.5, 0.9)]
    name = decisions.agent.name
    # a policy called "learned" has the problem's pictures to itself
    told = problem if name == "learned" else f"{problem} {name}"
    slug = "".join(c if c.isalnum() else "-" for c in told.lower())
    course = (
        f"Single episodes of {name}: a tenth, half and nine tenths of all episodes gain less. Every marker is a "
        "decision, drawn where it was made; triangles are teleports."
    )
    frequencies = (
        f"The features that say most about the action of {name} (mutual information), over {len(gained)} episodes. A bar "
        "holds about equally many decisions; ticks are the feature's value at its ends. In brackets: each action's share of "
        "all."
    )
    return [
        Drawing(f"decisions-{slug}", f"{told}: decisions", course, lambda: course_picture(decisions, episodes)),
        Drawing(f"actions-{slug}", f"{told}: what decides", frequencies, lambda: frequency_picture(decisions)),
    ]
