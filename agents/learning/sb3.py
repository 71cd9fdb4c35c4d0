"""`TeleportVectorEnv` as a vector environment of stable-baselines3.

Only this module and the training code import stable-baselines3.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.random import seeds_of_rows
from teleport_env.reading import integer

__all__ = ["SB3VecEnv"]

Indices = int | Iterable[int] | None


class SB3VecEnv(VecEnv):
    """Many runs in one tensor, for the algorithms of stable-baselines3.

    A run whose episode is over starts the next at once, and the last observation is in its info, as in `DummyVecEnv`. Infos
    are dicts per row with Python numbers, and an array for the mask. While a run goes on its info is empty; all such runs
    share one dict, which cannot be written to (a batch of thousands would spend its time on unread dicts). Where
    a run ends its info has the environment's last info, ``terminal_observation``, ``TimeLimit.truncated``, and ``episode``
    with ``r`` (return), ``l`` (actions) and ``t`` (seconds since this object was made) as `Monitor` gives, ``diverged`` and
    ``teleports``. So returns are logged without a wrapper, and `env_is_wrapped` says yes to `Monitor` for this.

    Args:
        env: An environment id, or a `TeleportVectorEnv` with ``autoreset_mode="SameStep"`` and ``output="numpy"``.
        num_envs: Number of runs, with an id.
        full_infos: Give the environment's info for every row at every step.
        bootstrap_truncated: Mark episodes that ran out of budget as ``TimeLimit.truncated``, whereupon algorithms add the
            value of the last observation to the last reward. The budget is part of the task and of the observation, so
            that with discount 1 nothing is left to gain there: training turns this off. False says ``TimeLimit.truncated``
            False for every episode.
        arguments: Keyword arguments of the environment, with an id.

    Raises:
        ValueError: Another ``autoreset_mode`` or ``output``, or ``action_mode="hybrid"``: no algorithm there takes dicts.
        TypeError: ``env`` is something else, or arguments come with an environment that is already made.
    """

    def __init__(
        self,
        env: str | TeleportVectorEnv,
        num_envs: int | None = None,
        *,
        full_infos: bool = False,
        bootstrap_truncated: bool = True,
        **arguments: Any,
    ) -> None:
        self.env = _vector_env(env, num_envs, arguments)
        self.full_infos = full_infos
        self.bootstrap_truncated = bootstrap_truncated
        count = self.env.num_envs
        self._actions: np.ndarray | None = None
        self._returns = np.zeros(count)
        self._lengths = np.zeros(count, dtype=np.int64)
        self._began = time.time()
        self.spec = self.env.spec
        super().__init__(count, self.env.single_observation_space, self.env.single_action_space)

    # -- playing -------------------------------------------------------------------------------------------------------

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seeds for the next `reset`, one per row; not ``seed + i``, under which neighbouring seeds share rows."""
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self._seeds = [*seeds_of_rows(integer("seed", seed, least=0), self.num_envs)]
        return self._seeds

    def reset(self) -> np.ndarray:
        """Start all runs anew, with the seeds and options given since the last reset; observations ``(num_envs, F)``."""
        seeds = [seed for seed in self._seeds if seed is not None]
        if seeds and len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} of {self.num_envs} rows have a seed; seed all of them or none")
        observation, infos = self.env.reset(seed=seeds or None, options=self._batched_options())
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self.reset_infos = _row_infos(infos, np.arange(self.num_envs))
        return observation

    @property
    def reset_infos(self) -> list[dict[str, Any]]:
        """How the episode of each row began; made of arrays when it is read, since hardly anybody does."""
        rows = np.flatnonzero(self._fresh)
        if len(rows):
            for row, info in zip(rows.tolist(), _row_infos(self._begun, rows), strict=True):
                self._reset_infos[row] = info
            self._fresh[:] = False
        return self._reset_infos

    @reset_infos.setter
    def reset_infos(self, infos: list[dict[str, Any]]) -> None:
        self._reset_infos = infos
        self._begun: dict[str, np.ndarray] = {}
        self._fresh = np.zeros(len(infos), dtype=bool)

    def _keep_beginnings(self, infos: dict[str, Any], rows: np.ndarray) -> None:
        """Keep how the episodes of some rows began, for `reset_infos`."""
        began = {name: values for name, values in infos.items() if name.removeprefix("_") not in _FINAL}
        if self._begun.keys() != began.keys():
            self._reset_infos = self.reset_infos
            self._begun = {name: np.empty_like(values) for name, values in began.items()}
        for name, values in began.items():
            self._begun[name][rows] = values[rows]
        self._fresh[rows] = True

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions ``(num_envs,)`` or ``(num_envs, 1 + d)`` for `step_wait`."""
        self._actions = np.asarray(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations ``(num_envs, F)``, rewards float32 and dones bool ``(num_envs,)``, and infos."""
        if self._actions is None:
            raise RuntimeError("call step_async() before step_wait()")
        observation, reward, terminated, truncated, infos = self.env.step(self._actions)
        self._actions = None
        self._returns += reward
        self._lengths += 1
        done = terminated | truncated
        rows: list[dict[str, Any]] = [_NOTHING] * self.num_envs
        if self.full_infos:
            rows = _row_infos(infos, np.arange(self.num_envs))
        over = np.flatnonzero(done)
        if len(over):
            self._end(over, rows, infos, truncated & ~terminated & self.bootstrap_truncated)
        self._returns[done] = 0.0
        self._lengths[done] = 0
        return observation, reward.astype(np.float32), done, rows

    def _end(self, over: np.ndarray, rows: list[dict[str, Any]], infos: dict[str, Any], truncated: np.ndarray) -> None:
        """Put into ``rows`` how the episodes ``over`` ended, and keep how the next began."""
        elapsed = round(time.time() - self._began, 6)
        self._keep_beginnings(infos, over)
        last, final = _row_infos(infos["final_info"], over), infos["final_obs"]
        columns = (values[over].tolist() for values in (truncated, self._returns, self._lengths))
        for row, info, late, gained, length in zip(over.tolist(), last, *columns, strict=True):
            info["terminal_observation"] = final[row]
            info["TimeLimit.truncated"] = late
            told = {name: info[name] for name in ("diverged", "teleports")}
            info["episode"] = {"r": gained, "l": length, "t": elapsed, **told}
            rows[row] = info

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    # -- looking -------------------------------------------------------------------------------------------------------

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One picture per row."""
        if self.render_mode != "rgb_array":
            warnings.warn(f"pictures need render_mode='rgb_array', this is {self.render_mode!r}", stacklevel=2)
            return [None] * self.num_envs
        images = self.env.render()
        assert images is not None
        return list(images)

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of the environment, once per row; of one that has a value per row, each row's own."""
        value = getattr(self.env, attr_name)
        return [self._of_row(value, row) for row in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the environment, which all rows share.

        Raises:
            ValueError: Only some rows are named.
        """
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise ValueError(f"all rows share one environment: {attr_name!r} can be set for all of them only")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the environment once, for all rows; each named row is given its part of the answer.

        ``env_method("action_masks")`` serves the maskable policies of sb3-contrib.
        """
        answer = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [self._of_row(answer, row) for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Indices = None) -> list[bool]:
        """True for `Monitor`, whose part this class plays; there are no wrappers inside."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    # -- inside --------------------------------------------------------------------------------------------------------

    def _of_row(self, value: Any, row: int) -> Any:
        if isinstance(value, np.ndarray) and value.ndim and len(value) == self.num_envs:
            return value[row]
        if isinstance(value, dict) and all(isinstance(part, np.ndarray) for part in value.values()):
            return {name: self._of_row(part, row) for name, part in value.items()}
        return value

    def _batched_options(self) -> dict[str, Any] | None:
        """One dict of arrays from one dict per row."""
        names = {name for options in self._options for name in options}
        for name in names:
            if not all(name in options for options in self._options):
                raise ValueError(f"the reset option {name!r} must be given for all rows or for none")
        return {name: np.stack([options[name] for options in self._options]) for name in sorted(names)} or None


def _vector_env(env: str | TeleportVectorEnv, num_envs: int | None, arguments: dict[str, Any]) -> TeleportVectorEnv:
    if isinstance(env, str):
        mode = arguments.pop("autoreset_mode", AutoresetMode.SAME_STEP)
        made = gym.make_vec(
            env,
            num_envs=1 if num_envs is None else num_envs,
            vectorization_mode="vector_entry_point",
            autoreset_mode=mode,
            **arguments,
        ).unwrapped
    else:
        made = env.unwrapped if isinstance(env, gym.vector.VectorEnv) else env
        if arguments or num_envs not in (None, getattr(made, "num_envs", None)):
            raise TypeError("num_envs and arguments belong to an environment id; this environment is already made")
    if not isinstance(made, TeleportVectorEnv):
        raise TypeError(f"env must be an environment id or a TeleportVectorEnv, got {type(made).__name__}")
    if made.autoreset_mode != AutoresetMode.SAME_STEP:
        raise ValueError(
            f"stable-baselines3 resets ended runs at once: make the environment with autoreset_mode='SameStep', "
            f"not {made.autoreset_mode.value!r}"
        )
    if made.output != "numpy":
        raise ValueError(f"stable-baselines3 needs output='numpy', got {made.output!r}")
    if made.settings.action_mode == "hybrid":
        raise ValueError("stable-baselines3 takes no dict actions: use action_mode='schedule' or 'group', not 'hybrid'")
    return made


class _Nothing(dict[str, Any]):
    """The info of every run that goes on: one empty dict, which nothing can be written to."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "runs that go on share one empty info: make the environment with full_infos=True to write to infos"
        )

    __setitem__ = __ior__ = update = setdefault = _refuse


_NOTHING = _Nothing()
_FINAL = ("final_obs", "final_info")


def _entries(values: np.ndarray) -> list[Any]:
    """Python numbers, or arrays where a row has several."""
    return values.tolist() if values.ndim == 1 else list(values)


def _row_infos(infos: dict[str, Any], rows: np.ndarray) -> list[dict[str, Any]]:
    """Some rows of a vector info as dicts of Python numbers, of the keys that each has; column by column, which is fast."""
    whole, partial = {}, {}
    for name, values in infos.items():
        present = infos.get("_" + name)
        if present is None or name in _FINAL:
            continue
        has = present[rows]
        if has.all():
            whole[name] = _entries(values[rows])
        else:
            partial[name] = _entries(values[rows]), np.flatnonzero(has).tolist()
    found = [dict(zip(whole, row, strict=True)) for row in zip(*whole.values(), strict=True)]
    if not whole:
        found = [{} for _ in range(len(rows))]
    for name, (taken, indices) in partial.items():
        for index in indices:
            found[index][name] = taken[index]
    return found
