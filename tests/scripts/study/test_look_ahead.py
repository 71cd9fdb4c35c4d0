"""The look-ahead takes the best of what it tried, pays for what it does alone, and never spends more than its budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from study.look_ahead import FACTORS, HORIZONS, OPTIMIZERS, _best, foreseen, look_ahead
from teleport_env.agents.base import agent_from
from teleport_env.agents.play import draw_instances, play, play_many
from teleport_env.envs.settings import Settings

IDS = draw_instances("Booth", "validation", 4, 3)


def looked(**settings: Any) -> Any:
    return look_ahead("Booth", IDS, split="validation", **settings)


def test_a_single_decision_is_the_best_of_all_rates() -> None:
    """With a budget for one decision it ends where the best constant rate ends, instance by instance."""
    base = Settings.build("Booth").learning_rate
    rates = [agent_from("never", environment={"learning_rate": base * factor, "searches": []}) for factor in FACTORS]
    best = play_many("Booth", rates, IDS, split="validation", budget=2.0).max(axis=0)
    np.testing.assert_allclose(looked(horizon=1, teleports=False, budget=2.0).gained, best, rtol=1e-12)


def test_a_closed_form_that_solves_the_problem_is_found() -> None:
    found, bare = (looked(horizon=4, teleports=one, budget=8.0) for one in (True, False))
    assert (found.gained > bare.gained + 2).all()
    assert (found.teleports >= 1).all()
    assert not bare.teleports.any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_trials_are_not_charged_and_no_episode_is_dearer_than_its_budget(optimizer: dict[str, Any]) -> None:
    for horizon in HORIZONS:
        found = looked(horizon=horizon, optimizer=optimizer, budget=9.0)
        assert (found.cost <= 9.0 + 1e-9).all()
        assert (found.tried > found.cost).all()


def test_where_every_action_diverges_the_episode_ends() -> None:
    """Regression: an action that cannot be paid was as good as those that diverge, and cheaper; it was taken for ever."""
    found = looked(horizon=4, factors=(1024.0,), budget=4.0)
    assert (found.gained == -2.0).all()


def test_rows_do_not_depend_on_their_company() -> None:
    alone = look_ahead("Booth", IDS[:1], split="validation", horizon=4, budget=8.0)
    assert alone.gained[0] == looked(horizon=4, budget=8.0).gained[0]


def test_of_equal_losses_the_cheapest_is_taken() -> None:
    losses = torch.tensor([[1.0, torch.inf], [1.0, torch.inf], [2.0, 3.0]])
    assert _best(losses, torch.tensor([[5.0, 1.0], [4.0, 1.0], [1.0, 9.0]])).tolist() == [1, 2]


def test_the_best_of_all_horizons_and_optimizers_is_kept() -> None:
    settings = {"problem": "Booth", "split": "validation", "instances": 4, "seed": 3, "budget": 8.0}
    found = foreseen({**settings, "teleports": False, "first": 2})
    assert found["ids"] == IDS[:2].tolist()
    runs = [looked(horizon=one, optimizer=by, teleports=False, budget=8.0) for one in HORIZONS for by in OPTIMIZERS]
    np.testing.assert_array_equal(found["gained"], np.max([one.gained[:2] for one in runs], axis=0))
    plain = play("Booth", agent_from("never"), IDS[:2], split="validation", budget=8.0)
    assert np.mean(found["gained"]) > plain.gained.mean()
