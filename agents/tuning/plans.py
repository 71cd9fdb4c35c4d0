"""Fixed schedules of rates and teleports, as settings to search among.

A `Plan` is `RateAndTeleport` within a menu: one teleport before each of the first gradient steps, then one at an interval;
the rate goes up in a warm-up and down at an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from teleport_env.agents.schedules import RateAndTeleport
from teleport_env.searches import describe, search_from


@dataclass(frozen=True)
class Plan:
    """A fixed schedule; times in gradient steps, actions as indices of the menu.

    Attributes:
        learning_rate: The base.
        up: Rate factor of the warm-up.
        warmup: Its length.
        down: Rate factor of the decay.
        decay_every: Steps from one decay to the next; 0: none.
        which: Search.
        first: One teleport before each of the first so many steps.
        every: Steps from one of the later teleports to the next; 0: none.
    """

    learning_rate: float
    up: float = 1.0
    warmup: int = 0
    down: float = 1.0
    decay_every: int = 0
    which: int = 0
    first: int = 0
    every: int = 0

    def in_words(self, environment: Mapping[str, Any]) -> str:
        """The plan in a line; ``environment`` has the menu."""
        parts = [f"learning rate {self.learning_rate:.4g}"]
        if self.warmup:
            parts.append(f"times {self.up:g} for the first {self.warmup} steps")
        if self.decay_every:
            parts.append(f"times {self.down:g} every {self.decay_every} steps")
        when = [f"before each of the first {self.first} steps"] * bool(self.first)
        when += [f"every {self.every} steps"] * bool(self.every)
        if not when:
            return f"{', '.join(parts)}; no teleports"
        search = describe(search_from(environment["searches"][self.which]))
        return f"{', '.join(parts)}; a teleport ({search}) {' and then '.join(when)}"

    def agent(self, environment: Mapping[str, Any], **settings: Any) -> RateAndTeleport:
        """The plan as an agent for a comparison.

        Of its menu, ``environment``'s, it gets the one search that it uses; ``settings`` are further ones of the agent.
        """
        menu = list(environment.get("searches", ()))
        own = {"learning_rate": self.learning_rate, "searches": menu[self.which : self.which + 1]}
        times = {name: getattr(self, name) for name in ("warmup", "decay_every", "first", "every")}
        kept = {name: value for name, value in environment.items() if name != "rate_factors"}
        return RateAndTeleport(up=self.up, down=self.down, **times, environment={**kept, **own}, **settings)


NEUTRAL: dict[str, Any] = {"up": 1.0, "warmup": 0, "down": 1.0, "decay_every": 0, "first": 0, "every": 0}
"""Values at which the settings of a plan do nothing."""


def canonical(config: Mapping[str, Any], idle: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A plan's settings without those that do nothing, so that no plan is tried twice.

    Args:
        config: Some of a plan's settings, and others, which stay.
        idle: Values of those that say by which search, where there are no teleports; None: ``which`` is 0.
    """
    cleared = {**NEUTRAL, **config}
    for factor, length in (("up", "warmup"), ("down", "decay_every")):
        if cleared[factor] == 1.0 or not cleared[length]:
            cleared |= {factor: 1.0, length: 0 * cleared[length]}  # 0 of its type
    if not cleared["first"] and not cleared["every"]:
        cleared |= {"which": 0} if idle is None else idle
    return {name: cleared[name] for name in config}
