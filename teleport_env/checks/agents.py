"""Checks of agents, by playing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np

from teleport_env.checks.report import Checks, Report
from teleport_env.envs import TeleportVectorEnv
from teleport_env.problems import DEFAULT_PROBLEM


def check_agent(agent: Any, problem_name: str = DEFAULT_PROBLEM, count: int = 5, **arguments: Any) -> Report:
    """Check an agent by playing whole episodes.

    Anything with stable-baselines3's ``predict`` will do. It must choose actions within the space for one run and for many
    alike, keep what it remembers in the state it returns, leave alone what it is given, and clear its memory where
    ``episode_start`` says so.

    Args:
        agent: The agent, or its registered name.
        problem_name: The registered problem it plays.
        count: Number of runs side by side, at least 2.
        arguments: Further keyword arguments of the environment; the agent's own ``environment`` goes before them.

    Raises:
        CheckFailed: Something does not hold.
        ValueError: An unknown name.
    """
    if count < 2:
        raise ValueError(f"count must be at least 2 to compare rows, got {count}")
    if isinstance(agent, str):
        from teleport_env.agents import agent_for

        agent = agent_for(problem_name, agent)
    checks = Checks(f"agent {getattr(agent, 'name', '') or type(agent).__name__} on {problem_name}")
    able = callable(getattr(agent, "predict", None))
    checks.require(able, "it has no `predict`", "Derive from teleport_env.agents.Agent")
    wanted = {**arguments, **getattr(agent, "environment", {})}
    with checks.trying("making its environment", "Correct the agent's `environment`: keyword arguments of gym.make"):
        env = TeleportVectorEnv(problem_name, count, autoreset_mode="Disabled", **wanted)
    actions, cleared = _play(checks, agent, env)
    again, _ = _play(checks, agent, env)
    for step, (first, second) in enumerate(zip(actions, again, strict=False)):
        checks.require(
            np.array_equal(first, second),
            f"predict chose {first.tolist()} at action {step}, and {second.tolist()} when the episodes were played again",
            "Keep everything that is remembered in the state that `predict` returns, and nothing in the agent itself",
        )
    checks.require(len(actions) == len(again), "the second play took another number of actions", "As above")
    checks.passed += ["chooses actions within the space", "plays whole episodes", "plays the same again"]
    checks.passed += ["one run alone and among others", "leaves its arguments alone"]
    if cleared:
        checks.passed.append("episode_start clears the memory")
    with checks.trying("pickling", "Define the class at the top of a module: comparisons play in other processes"):
        pickle.loads(pickle.dumps(agent))
    checks.passed.append("pickling")
    return checks.report()


def _play(checks: Checks, agent: Any, env: TeleportVectorEnv) -> tuple[list[np.ndarray], bool]:
    """Whole episodes, row 0 also decided alone; returns the actions, and whether the memory was seen cleared."""
    count, space = env.num_envs, env.single_action_space
    observation, _ = env.reset(seed=0)
    state: Any = None
    alone_state: Any = None
    begins, over, cleared = np.ones(count, dtype=bool), np.zeros(count, dtype=bool), False
    played: list[np.ndarray] = []
    while not over.all():
        given: np.ndarray = observation.copy()
        kept: Any = copy.deepcopy(state)
        with checks.trying(
            "predict", "It is given (B, F) observations, the state it returned, and the runs that begin"
        ):
            action, after = agent.predict(observation, state, begins)
        checks.require(np.array_equal(observation, given), "predict writes into the observation", "Copy it first")
        wrong = f"predict writes into the state it is given (action {len(played)})"
        checks.require(_same_state(state, kept), wrong, "Return new arrays: the caller may play on from the old state")
        action = np.asarray(action)
        checks.require(
            action.shape == (count,) and np.issubdtype(action.dtype, np.integer),
            f"predict returned {action.dtype} of shape {action.shape} for {count} observations",
            f"Return ({count},) integers",
        )
        outside = [value for value in action.tolist() if not space.contains(np.int64(value))]
        remedy = "Choose actions of the menu that the agent asks for"
        checks.require(not outside, f"predict chose {outside[:1]}, outside {space}", remedy)
        for name, values in after.items() if isinstance(after, dict) else ():
            right = isinstance(values, np.ndarray) and values.shape[:1] == (count,)
            checks.require(
                right, f"state[{name!r}] is no array with leading axis {count}", "Remember one entry per run"
            )
        with checks.trying("predict for one run", "An observation (F,) is one run: return one action"):
            single, alone_state = agent.predict(observation[0], alone_state, begins[:1])
        shape = np.shape(single)
        checks.require(shape == (), f"predict returned shape {shape} for one observation (F,)", "Return a scalar")
        if not over[0]:
            checks.require(
                int(single) == int(action[0]),
                f"predict chose {int(single)} for row 0 alone, and {int(action[0])} among {count} (action {len(played)})",
                "Decide row i from row i of the observation and of the state alone",
            )
        if len(played) == 3 and state is not None:
            _check_episode_start(checks, agent, observation, state)
            cleared = True
        observation, reward, terminated, truncated, _ = env.step(action)
        checks.require(np.isfinite(reward).all(), f"a reward is {reward}", "This is the environment's fault, not yours")
        state, begins, over = after, np.zeros(count, dtype=bool), terminated | truncated
        played.append(action.copy())
    return played, cleared


def _check_episode_start(checks: Checks, agent: Any, observation: np.ndarray, state: Any) -> None:
    """Rows that begin an episode decide, and remember, as runs without a past; the others as before."""
    count = len(observation)
    begins = np.arange(count) % 2 == 0
    fresh, fresh_state = agent.predict(observation, None, np.ones(count, dtype=bool))
    going, going_state = agent.predict(observation, state, np.zeros(count, dtype=bool))
    mixed, mixed_state = agent.predict(observation, state, begins)
    row = next((row for row in range(count) if mixed[row] != (fresh if begins[row] else going)[row]), None)
    remedy = "Clear the memory of the runs in `episode_start`, and of no others"
    checks.require(row is None, f"predict disregards episode_start in row {row}", remedy)
    if not isinstance(mixed_state, dict):
        return
    for name, values in mixed_state.items():
        wanted = np.where(begins.reshape(-1, *([1] * (values.ndim - 1))), fresh_state[name], going_state[name])
        checks.require(np.array_equal(values, wanted), f"state[{name!r}] disregards episode_start", remedy)


def _same_state(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_same_state(x, y) for x, y in zip(a, b, strict=True))
    return a is None and b is None if a is None or b is None else bool(np.array_equal(a, b))
