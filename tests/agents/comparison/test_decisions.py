"""What a policy does, made visible: shares add up, the telling feature is found, and the pictures show every decision."""

from __future__ import annotations

import numpy as np
import pytest

from teleport_env.agents import RelativeDecrease
from teleport_env.agents.comparison.decisions import (
    course_picture,
    decision_drawings,
    frequency_picture,
    information,
    main_features,
    shares,
    watch,
)
from teleport_env.agents.play import draw_instances
from teleport_env.envs.features import INDEX


def test_shares_add_up_and_bins_hold_equally_many() -> None:
    generator = np.random.default_rng(0)
    feature, actions = generator.normal(size=1200), generator.integers(3, size=1200)
    ends, table = shares(feature, actions, 3)
    assert table.shape == (12, 3)
    assert np.allclose(table.sum(axis=1), 1)
    assert (ends[0], ends[-1]) == (feature.min(), feature.max())
    inside = np.histogram(feature, ends)[0]
    assert inside.min() > 90


@pytest.mark.parametrize("feature", [np.zeros(7), np.array([0.0, 0, 0, 0, 0, 1, 1])])
def test_shares_of_a_feature_that_hardly_moves(feature: np.ndarray) -> None:
    actions = (feature > 0).astype(int)
    ends, table = shares(feature, actions, 2)
    assert len(ends) == len(table) + 1
    assert np.allclose(table.sum(axis=1), 1)
    assert not np.isnan(table).any()


def test_information_is_the_entropy_where_the_feature_decides_and_nothing_where_it_does_not() -> None:
    generator = np.random.default_rng(0)
    feature = generator.normal(size=6000)
    decided = (feature > np.median(feature)).astype(int)
    assert information(feature, decided, 2) == pytest.approx(1.0, abs=0.01)
    assert information(feature, generator.integers(2, size=6000), 2) == pytest.approx(0.0, abs=0.01)
    flag = (feature > 1.5).astype(float)  # a feature of two values, one of them rare
    assert information(flag, flag.astype(int), 2) == pytest.approx(0.354, abs=0.03)
    assert information(np.zeros(100), np.arange(100) % 2, 2) == pytest.approx(0.0, abs=1e-9)


def test_the_feature_that_a_rule_reads_tells_most_of_it() -> None:
    rule = RelativeDecrease(threshold=0.3, cooldown=1, environment={"searches": ["virtual_step"]})
    ids = draw_instances("Rosenbrock", "train", 24, seed=0)
    decisions = watch("Rosenbrock", rule, ids, split="train")
    seen, actions = decisions.flat()
    assert len(seen) == len(actions) > 24 * 5
    # the rule's own guard of the budget aside, its action is what the feature says
    says = seen[:, INDEX["rate_decrease"]] < 0.5 * np.log10(0.3)
    assert np.mean(says[actions == 1]) == 1.0
    assert "rate_decrease" in [name for name, _ in main_features(decisions, most=3)]


def test_pictures_show_every_action_that_was_taken() -> None:
    environment = {"searches": [{"search": "normalized_ascent", "steps": 2}]}
    decisions = watch(
        "Booth", RelativeDecrease(environment=environment), draw_instances("Booth", "train", 8, seed=0), split="train"
    )
    assert decisions.labels[1].startswith("teleport: normalized ascent, gradient norm, steps 2")
    figure = course_picture(decisions, [0, 3])
    assert len(figure.axes) == 6
    assert [axis.get_yscale() for axis in figure.axes] == ["log"] * 6
    played = decisions.played
    assert played.actions is not None
    shown = sum(len(dots.get_offsets()) for dots in figure.axes[0].collections)
    assert shown == (played.actions[:, 0] >= 0).sum()
    legend = [text.get_text() for text in frequency_picture(decisions).legends[0].get_texts()]
    assert [text.rsplit(" (", 1)[0] for text in legend] == list(decisions.labels)
    drawings = decision_drawings("Booth", decisions)
    assert [drawing.name for drawing in drawings] == [
        "decisions-booth-relative-decrease",
        "actions-booth-relative-decrease",
    ]
