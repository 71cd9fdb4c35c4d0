"""Gymnasium's and stable-baselines3's own checks, for every id and action mode, with warnings as errors."""

from __future__ import annotations

import warnings

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

import teleport_env  # noqa: F401
from envs.cases import CASES, arguments_for

# Exactly these, no pattern: a new warning is a failure.
ALLOWED_SB3 = {
    # the hybrid mode is for hand-written agents; stable-baselines3 has no Dict actions and says so
}


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_gymnasium(name: str, mode: str) -> None:
    env = gym.make(f"Teleport/{name}-v0", disable_env_checker=True, **arguments_for(name, mode))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check(env.unwrapped, skip_render_check=name == "MNIST")


@pytest.mark.parametrize(("name", "mode"), [case for case in CASES if case[1] != "hybrid"])
def test_stable_baselines3(name: str, mode: str) -> None:
    env = gym.make(f"Teleport/{name}-v0", **arguments_for(name, mode))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check(env, warn=True)


@pytest.mark.parametrize("observation", ["params", "both"])
def test_observations_of_parameters(observation: str) -> None:
    env = gym.make("Teleport/RosenbrockND-v0", observation=observation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check(env.unwrapped)
        sb3_check(env, warn=True)


def test_no_environment_is_left_out() -> None:
    """A problem that gets an id without passing through this file is a failure."""
    ours = {spec for spec in gym.registry if spec.startswith("Teleport/")}
    assert {f"Teleport/{name}-v0" for name, _ in CASES} <= ours
