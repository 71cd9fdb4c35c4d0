"""What `render` draws: the course of the episode so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from teleport_env.envs.episodes import Episodes
from teleport_env.envs.settings import Settings


@dataclass
class Course:
    """One run's course, an entry an action (and one for the start).

    Attributes:
        cost: Gradient evaluations spent.
        loss: The loss.
        grad_norm: The gradient norm.
        teleported: Whether the action was a teleport that moved.
        points: The parameters, if there are two of them.
    """

    cost: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    teleported: list[bool] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)


class History:
    """The courses of ``count`` runs since their last reset; kept only where an environment renders."""

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings = settings
        self.courses = [Course() for _ in range(count)]
        self._teleports = [0] * count

    def begin(self, episodes: Episodes, rows: list[int] | None = None) -> None:
        """Start anew the courses of ``rows`` (None: all)."""
        rows = list(range(len(self.courses))) if rows is None else rows
        for row in rows:
            self.courses[row] = Course()
            self._teleports[row] = 0
        self.add(episodes, rows)

    def add(self, episodes: Episodes, rows: list[int] | None = None) -> None:
        """Append where the runs stand now."""
        progress, runs = episodes.runs.progress, episodes.runs
        for row in range(len(self.courses)) if rows is None else rows:
            course, teleports = self.courses[row], int(progress.teleports[row])
            course.cost.append(float(runs.ledger.cost[row]))
            course.loss.append(float(progress.loss[row]))
            course.grad_norm.append(float(progress.grad_norm2[row]) ** 0.5)
            course.teleported.append(teleports > self._teleports[row])
            self._teleports[row] = teleports
            if runs.params.shape[1] == 2:
                x, y = runs.params[row].tolist()
                course.points.append((x, y))
