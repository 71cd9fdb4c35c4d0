"""`TeleportVectorEnv`: many optimization runs in one tensor as a `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from teleport_env.envs.actions import ActionReader, action_space
from teleport_env.envs.boundary import OPTIONS, Boundary, EnvSnapshot, first_keys, own_modes, read_options, read_seeds
from teleport_env.envs.episodes import Episodes
from teleport_env.envs.rendering import History, draw
from teleport_env.envs.settings import OUTPUTS, Settings
from teleport_env.problems import DEFAULT_PROBLEM
from teleport_env.random import Streams, seeds_of_rows
from teleport_env.reading import integer, known, tensor
from teleport_env.upcoming import Upcoming


class TeleportVectorEnv(Boundary, VectorEnv[Any, Any, Any]):
    """``num_envs`` runs of `TeleportEnv` in one tensor; row ``i`` agrees with a single environment bit for bit in float64
    and with one thread of torch.

    Action, observation and reward are those of `TeleportEnv`, batched; observations lie column by column in memory, as those
    of Gymnasium's own vector environments do. ``gym.make_vec`` adds no wrapper to an environment
    of this kind, so this class checks order and actions itself, and the budget ends episodes.

    Args:
        name: The registered problem.
        num_envs: Number of runs.
        autoreset_mode: Treatment of a run whose episode is over: ``"NextStep"`` (its next step resets it, action
            ignored), ``"SameStep"`` (reset at once; the last observation and info are in ``final_obs`` and
            ``final_info``), or ``"Disabled"`` (it waits, with reward 0, until ``reset(options={"reset_mask": mask})``).
        output: ``"numpy"``, or ``"torch"``: tensors on ``device`` out, and in where the caller has them. Rewards are float64
            arrays, as in Gymnasium, or float32 tensors, which learners declare.
        render_mode: None or ``"rgb_array"``.
        arguments: Arguments of `TeleportEnv`.

    Seeds: ``reset(seed=s)`` gives row ``i`` the seed ``teleport_env.random.seeds_of_rows(s, num_envs)[i]``, with which a
    single environment plays the same episodes; ``seed=[...]`` gives one per row. ``s`` and ``s + 1`` share no row.
    """

    _many = True
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's own form)
    """Modes and frame rate of `render`, and the autoreset mode."""

    @own_modes()
    def __init__(
        self,
        name: str = DEFAULT_PROBLEM,
        num_envs: int = 1,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        output: str = "numpy",
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        self.num_envs = num_envs = integer("num_envs", num_envs, least=1, most=1 << 31)
        self.autoreset_mode = _autoreset(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.output = known("output", output, OUTPUTS)
        self.render_mode = None if render_mode is None else known("render_mode", render_mode, ("rgb_array",))
        self.settings = Settings.for_face(type(self), name, arguments)
        self.episodes = Episodes(self.settings, num_envs)
        self.single_observation_space = self.episodes.observation_space()
        self.single_action_space = action_space(self.settings)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._read = ActionReader(self.settings, num_envs)
        self._keys = torch.zeros(num_envs, dtype=torch.int64, device="cpu")
        self._numbers = torch.zeros(num_envs, dtype=torch.int64, device="cpu")  # of the episode since the key was drawn
        self._pending: Tensor | None = None  # over, to be reset by the next step; None: none
        self._upcoming: Upcoming | None = None  # of the keys there are
        self._started = False
        self._history = History(self.settings, num_envs) if render_mode else None
        # most of the time there is nothing to convert
        self._plain = output == "numpy" and self.settings.device.type == "cpu"

    # -- Gymnasium -----------------------------------------------------------------------------------------------------

    @own_modes()
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes.

        Args:
            seed: One for all rows (see the class) or one per row.
            options: ``reset_mask``: ``(num_envs,)`` bool, which rows start anew; ``instance_id``: one or one per row;
                ``params``: ``(P,)`` or ``(num_envs, P)``; ``learning_rate``: base learning rate, one or one per row;
                ``searches``: the searches of the menu that an episode has, bools ``(searches,)`` or ``(num_envs,
                searches)``. Rows that are not reset ignore theirs; later episodes have the environment's own again.
        """
        options = read_options(options, "reset_mask", *OPTIONS)
        seeds = read_seeds(seed, self.num_envs)
        mask = self._mask(options.pop("reset_mask", None))
        if mask is not None and not self._started:
            raise gym.error.ResetNeeded("the first reset must start every row: call reset() without reset_mask")
        anew = seeds is not None or not self._started
        with self._undone_if_refused(anew):
            rows = torch.ones(self.num_envs, dtype=torch.bool, device="cpu") if mask is None else mask
            if anew:
                self._draw_keys(seeds, rows)
            else:
                self._numbers[rows] += 1
            self._begin(mask, options)
        self._started = True
        return self._observation(), self._info(self.episodes.numbers(), None)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One action per row; see `TeleportEnv.step` and ``autoreset_mode``."""
        # a decorator would cost every step
        if torch.is_inference_mode_enabled() or torch.is_autocast_enabled(self.settings.device.type):
            with own_modes():
                return self.step(actions)
        if not self._started:
            raise gym.error.ResetNeeded("call reset() before step()")
        episodes, pending = self.episodes, self._pending
        asked = None
        if isinstance(actions, np.ndarray) and actions.dtype == np.int64 and actions.shape == (self.num_envs,):
            asked = None if np.count_nonzero(actions) else self._read.zeros  # most often: nothing to read
        asked = asked or self._read(actions)  # an action that is refused changes nothing
        begin: Callable[[], None] | None = None
        if pending is not None:
            begin = self._next(pending)
            if not Upcoming.serves(episodes.runs):
                begin()
                begin = None
        outcome = episodes.act(asked, None if pending is None else pending.to(self.settings.device), begin)
        over = outcome.ended
        if self._history:
            still = (~episodes.ended if over is None else ~episodes.ended | over).nonzero().squeeze(1).tolist()
            self._history.add(episodes, [row for row in still if pending is None or not bool(pending[row])])
        numbers = episodes.numbers()
        if over is None:
            infos: dict[str, Any] = self._info(numbers, None)
        else:
            measured = None
            if episodes.measures_apart:
                rows = over.nonzero().squeeze(1)
                measured = rows, episodes.measure(rows)
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                infos = self._same_step(over, numbers, measured)
            else:
                infos = self._info(numbers, measured)
            if self.autoreset_mode == AutoresetMode.NEXT_STEP:
                self._pending = over.cpu()
        reward, terminated, truncated = map(self._give, (outcome.reward, outcome.terminated, outcome.truncated))
        if self.output == "torch":
            reward = reward.to(torch.float32)
        return self._observation(), reward, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One picture per row, as `TeleportEnv.render`."""
        if self._history is None:
            gym.logger.warn("render() needs render_mode='rgb_array' at make_vec()")
            return None
        self._need_reset("render()")
        return tuple(draw(self._history, self.episodes, row) for row in range(self.num_envs))

    # -- beyond Gymnasium ----------------------------------------------------------------------------------------------

    def action_masks(self) -> Any:
        """``(num_envs, actions)`` int8: as `TeleportEnv.action_masks`."""
        self._need_reset("action_masks()")
        return self._give(self.episodes.action_mask())

    @own_modes()
    def restore(self, snapshot: EnvSnapshot) -> tuple[Any, dict[str, Any]]:
        """As `TeleportEnv.restore`, for all rows."""
        self._check_snapshot(snapshot)
        self._load(snapshot)
        return self._observation(), self._info(self.episodes.numbers(), None)

    def _load(self, snapshot: EnvSnapshot) -> None:
        super()._load(snapshot)
        self._upcoming = None
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            ended = self.episodes.ended.cpu()
            self._pending = ended if bool(ended.any()) else None

    @own_modes()
    def measure(self) -> dict[str, Any]:
        """As `TeleportEnv.measure`, ``(num_envs,)`` each."""
        self._need_reset("measure()")
        return {name: self._out(value) for name, value in self.episodes.measure().items()}

    @property
    def params(self) -> Any:
        """A copy of the parameters ``(num_envs, P)``."""
        self._need_reset("params")
        return self._out(self.episodes.runs.params)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _mask(self, mask: Any) -> Tensor | None:
        if mask is None:
            return None
        if not isinstance(mask, (np.ndarray, Tensor)):
            raise TypeError(f"reset_mask must be a numpy array or a tensor, got {type(mask).__name__}")
        if tuple(mask.shape) != (self.num_envs,) or mask.dtype not in (torch.bool, np.dtype(bool)):
            raise ValueError(
                f"reset_mask must hold {self.num_envs} bools, got shape {tuple(mask.shape)} of {mask.dtype}"
            )
        found = tensor("reset_mask", mask, flags=True).cpu() == 1
        if not bool(found.any()):
            raise ValueError("reset_mask holds no True: there is nothing to reset")
        return found

    def _draw_keys(self, seeds: int | list[int | None] | None, rows: Tensor) -> None:
        """New keys for ``rows`` ``(num_envs,)`` bool, from one seed, from one per row, or from none."""
        if not isinstance(seeds, list):
            super().reset(seed=seeds)
            root = int(self.np_random.integers((1 << 63) - 1)) if seeds is None else seeds
            seeds = list(seeds_of_rows(root, self.num_envs))
        # None is a row whose seed does not matter, as in Gymnasium's own vector environments
        each = [int(self.np_random.integers((1 << 63) - 1)) if seed is None else seed for seed in seeds]
        generators = [gym.utils.seeding.np_random(each[row])[0] for row in rows.nonzero().squeeze(1).tolist()]
        self._keys[rows] = first_keys(generators)
        self._numbers[rows] = 0
        self._upcoming = None

    def _next(self, mask: Tensor) -> Callable[[], None]:
        """What starts the next episodes of the rows in ``mask`` ``(num_envs,)``, prepared where that is worth it."""
        runs = self.episodes.runs
        if not Upcoming.serves(runs):
            return partial(self._begin_next, mask)
        upcoming = self._upcoming or Upcoming(runs, self._keys, self.episodes.draw_ids)
        self._upcoming = upcoming
        at = mask.numpy().nonzero()[0]
        return partial(self._adopt_next, upcoming, at, upcoming.prepare(self._numbers.numpy(), at))

    def _begin_next(self, mask: Tensor) -> None:
        self._numbers += mask
        self._begin(mask, {})

    def _adopt_next(self, upcoming: Upcoming, at: np.ndarray, of: np.ndarray) -> None:
        self._numbers.numpy()[at] += 1
        self.episodes.adopt(upcoming, at, of)
        self._pending = None
        if self._history:
            self._history.begin(self.episodes, at.tolist())

    def _begin(self, mask: Tensor | None, options: dict[str, Any]) -> None:
        rows = slice(None) if mask is None else mask
        keys = Streams(self._keys[rows]).fork(self._numbers[rows]).keys
        chosen = torch.arange(self.num_envs, device="cpu")[rows]
        device_mask = None if mask is None else mask.to(self.settings.device)
        self.episodes.reset(keys, mask=device_mask, **self._beginnings(options, keys, chosen))
        if self._pending is not None:
            pending = self._pending if mask is None else self._pending & ~mask
            self._pending = None if mask is None or not bool(pending.any()) else pending
        if self._history:
            self._history.begin(self.episodes, None if mask is None else mask.nonzero().squeeze(1).tolist())

    def _same_step(
        self, over: Tensor, numbers: dict[str, Any], measured: tuple[Tensor, dict[str, Tensor]] | None
    ) -> dict[str, Any]:
        """Reset the rows that are over at once; their last observation and info go into the infos."""
        rows = over.nonzero().squeeze(1)
        last = self.episodes.observation(None if self.output == "torch" else rows)
        mask = over.cpu()
        self._next(mask)()
        infos = self._info(self.episodes.numbers(), None)
        flags = mask.numpy()
        if self.output == "torch":
            infos["final_obs"] = last
        else:
            observations = np.full(self.num_envs, None, dtype=object)
            for row, array in zip(rows.tolist(), last.contiguous().cpu().numpy(), strict=True):
                observations[row] = array.copy()
            infos["final_obs"] = observations
        infos["final_info"] = self._info(numbers, measured, flags)
        infos["_final_obs"] = infos["_final_info"] = over.clone() if self.output == "torch" else flags.copy()
        return infos

    def _observation(self) -> Any:
        if self._plain and self.settings.observation == "features":
            return self.episodes.feature_rows().T
        return self._give(self.episodes.observation())

    def _out(self, value: Tensor) -> Any:
        """A copy for the caller: an array, or a tensor."""
        return value.clone() if self.output == "torch" else value.cpu().numpy().copy()

    def _give(self, value: Any) -> Any:
        """An array or a tensor, as the caller wants it, of what has memory of its own."""
        if self.output == "torch":
            return value if isinstance(value, Tensor) else torch.from_numpy(value)
        return value.cpu().numpy() if isinstance(value, Tensor) else value

    def _info(
        self,
        numbers: dict[str, Any],
        measured: tuple[Tensor, dict[str, Tensor]] | None,
        flags: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Gymnasium's vector info: an array per name, and under ``_name`` which rows have it.

        Args:
            numbers: The numbers, handed over.
            measured: The rows that were measured apart, and what came out.
            flags: ``(num_envs,)`` bool: which rows have the numbers; None: all.
        """
        mask = np.ones(self.num_envs, dtype=bool) if flags is None else flags.copy()  # all names share it
        if self._plain:
            infos = numbers | dict.fromkeys(["_" + name for name in numbers], mask)
        else:
            infos = {name: self._give(value) for name, value in numbers.items()}
            infos |= dict.fromkeys(["_" + name for name in numbers], self._give(mask))
        if measured is not None:
            rows, values = measured
            present = torch.zeros(self.num_envs, dtype=torch.bool, device="cpu")
            present[rows.cpu()] = True
            for name, value in values.items():
                full = torch.zeros(self.num_envs, dtype=value.dtype, device=value.device)
                full[rows] = value
                infos[name], infos["_" + name] = self._give(full), self._out(present)
        return infos


def _autoreset(mode: str | AutoresetMode) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    names = {m.value: m for m in AutoresetMode} | {m.name: m for m in AutoresetMode}
    return names[known("autoreset_mode", mode, names)]
