"""`TeleportEnv`: one optimization run as a `gymnasium.Env`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from teleport_env.envs.actions import ActionReader, action_space
from teleport_env.envs.boundary import OPTIONS, Boundary, EnvSnapshot, first_keys, own_modes, read_options, read_seed
from teleport_env.envs.episodes import Episodes
from teleport_env.envs.rendering import History, draw
from teleport_env.envs.settings import Settings
from teleport_env.problems import DEFAULT_PROBLEM
from teleport_env.random import Streams
from teleport_env.reading import known
from teleport_env.searches import Status


class TeleportEnv(Boundary, gym.Env[np.ndarray, Any]):
    """When, how far and to what end should an optimizer teleport?

    ## Description
    An episode is one optimization run on one instance of a problem. Each action is either one or more gradient steps or
    a *symmetry teleport*. In a teleport the parameters move along the level set of the loss by a group action, ``L(g.w)
    = L(w)``, to a point from which gradient steps go faster (Zhao, Dehmamy, Walters, Yu, "Symmetry Teleportation for
    Accelerated Optimization", NeurIPS 2022). The run has a budget, counted in gradient evaluations, that steps and
    teleports alike are paid from.

    ## Action Space
    | ``action_mode`` | space | meaning |
    |---|---|---|
    | ``"schedule"`` | ``Discrete(len(rate_factors) + len(searches))`` | a rate factor and steps, or a teleport |
    | ``"group"`` | ``Box(-1, 1, (1 + d,))`` | first entry positive: teleport by ``exp(group_scale * xi)``; else step |
    | ``"hybrid"`` | ``Dict(teleport=Discrete(2), group=Box(-1, 1, (d,)))`` | the same for hand-written agents |

    ## Observation Space
    ``Box`` of float32: the features of `teleport_env.envs.features.FEATURES` (bounded, scale-free), or with
    ``observation="params"`` the parameters clipped to 1e6, or both.

    ## Rewards
    ``"log_decrease"``: ``log10`` of the loss before over after, floored at the tolerance, minus ``cost_weight`` times
    the cost of the action. The undiscounted return is the orders of magnitude gained. ``"terminal"``: the same sum at
    the end of the episode, on the whole training set. With both an episode that diverges returns -2 in all.
    ``"score"``: each decrease of the lowest loss so far times the share of the budget's logarithm that is left.

    ## Starting State
    An instance of the ``split`` and its start. ``reset(options={"instance_id": i})`` chooses one, ``options={"params":
    w}`` another start, ``options={"learning_rate": r}`` another base learning rate.

    ## Episode End
    Terminated when the loss reaches the tolerance or diverges; truncated when the budget is spent.

    ## Arguments
    See `teleport_env.envs.settings.Settings.build`; the same for `gym.make` and `gym.make_vec`.

    ## Version History
    * v0: first version.
    """

    _many = False
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's own form)
    """Modes and frame rate of `render`."""

    @own_modes()
    def __init__(self, name: str = DEFAULT_PROBLEM, render_mode: str | None = None, **arguments: Any) -> None:
        self.render_mode = None if render_mode is None else known("render_mode", render_mode, ("rgb_array",))
        self.settings = Settings.for_face(type(self), name, arguments)
        self.episodes = Episodes(self.settings, 1)
        self.observation_space = self.episodes.observation_space()
        self.action_space = action_space(self.settings)
        self._read = ActionReader(self.settings, 1)
        self._keys = self._numbers = torch.zeros(1, dtype=torch.int64, device="cpu")
        self._started = False
        self._over = False
        self._history = History(self.settings, 1) if render_mode else None

    # -- Gymnasium -----------------------------------------------------------------------------------------------------

    @own_modes()
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds this and all coming episodes.
            options: ``instance_id``: the instance to play; ``params``: ``(P,)``, where to start; ``learning_rate``: the
                base learning rate of this episode; ``searches``: a bool for each search of the menu, those that this
                episode has. Later episodes have the environment's own again.
        """
        options, seed = read_options(options, *OPTIONS), read_seed(seed)
        anew = seed is not None or not self._started
        with self._undone_if_refused(anew):
            super().reset(seed=seed)
            if anew:
                self._keys, self._numbers = first_keys([self.np_random]), torch.zeros_like(self._numbers)
            else:
                self._numbers = self._numbers + 1
            keys = Streams(self._keys).fork(self._numbers).keys
            self.episodes.reset(keys, **self._beginnings(options, keys, torch.zeros_like(self._numbers)))
        self._started = True
        self._over = False
        if self._history:
            self._history.begin(self.episodes)
        return self._observation(), self._info(False)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One action; see the class."""
        # a decorator would cost every step
        if torch.is_inference_mode_enabled() or torch.is_autocast_enabled(self.settings.device.type):
            with own_modes():
                return self.step(action)
        if not self._started:
            raise gym.error.ResetNeeded("call reset() before step()")
        if self._over:
            raise gym.error.ResetNeeded("the episode is over: call reset() before the next step()")
        # most often: nothing to read
        asked = self._read.zeros if type(action) in _INTEGERS and action == 0 else None
        outcome = self.episodes.act(asked or self._read(_batched(action)))
        terminated, truncated = bool(outcome.terminated), bool(outcome.truncated)
        self._over = terminated or truncated
        if self._history:
            self._history.add(self.episodes)
        return self._observation(), float(outcome.reward[0]), terminated, truncated, self._info(self._over)

    def render(self) -> np.ndarray | None:
        """A picture ``(height, width, 3)`` uint8: for two parameters level sets with the trajectory and the teleports; else
        loss and gradient norm against compute, teleports marked."""
        if self._history is None:
            gym.logger.warn("render() needs render_mode='rgb_array' at make()")
            return None
        self._need_reset("render()")
        return draw(self._history, self.episodes, 0)

    # -- beyond Gymnasium ----------------------------------------------------------------------------------------------

    def action_masks(self) -> np.ndarray:
        """``(actions,)`` int8: 1 for what the rest of the budget can pay; the info's ``action_mask``.

        Raises:
            gymnasium.error.ResetNeeded: There has been no reset.
            ValueError: Another action mode than ``"schedule"``.
        """
        self._need_reset("action_masks()")
        return _own_array(self.episodes.action_mask()[0])

    @own_modes()
    def restore(self, snapshot: EnvSnapshot) -> tuple[np.ndarray, dict[str, Any]]:
        """Go back to a snapshot; returns the observation and info there. A rendered history is not rewound.

        Raises:
            gymnasium.error.ResetNeeded: There has been no reset.
            TypeError: It is no snapshot.
            ValueError: It was made by an environment of another kind.
        """
        self._check_snapshot(snapshot)
        self._load(snapshot)
        self._over = bool(self.episodes.ended)
        return self._observation(), self._info(False)

    @own_modes()
    def measure(self) -> dict[str, float]:
        """Loss on the whole training set, and validation loss and accuracy where there are any; costs no budget."""
        self._need_reset("measure()")
        return {name: float(value) for name, value in self.episodes.measure().items()}

    @property
    def params(self) -> np.ndarray:
        """A copy of the parameters ``(P,)``."""
        self._need_reset("params")
        return self.episodes.runs.params[0].cpu().numpy().copy()

    def _observation(self) -> np.ndarray:
        # memory of its own already
        if self.settings.observation == "features" and self.settings.device.type == "cpu":
            return self.episodes.feature_rows().reshape(-1)
        return self.episodes.observation().cpu().numpy().reshape(-1)

    def _info(self, over: bool) -> dict[str, Any]:
        numbers = self.episodes.numbers(last=False)
        mask = numbers.pop("action_mask", None)
        info = {name: value.item() for name, value in numbers.items()}
        info["teleport_status"] = _STATUSES[info["teleport_status"]]
        if mask is not None:
            info["action_mask"] = _own_array(mask[0])
        if over and self.episodes.measures_apart:
            info.update(self.measure())
        return info


_STATUSES = tuple(Status)
_INTEGERS = (int, np.int64)


def _own_array(value: Any) -> np.ndarray:
    return value.cpu().numpy() if isinstance(value, Tensor) else value


def _batched(value: Any) -> Any:
    """One action, or each entry of a dict, with an axis in front."""
    if isinstance(value, dict):
        return {name: _batched(part) for name, part in value.items()}
    if isinstance(value, Tensor):
        return value[None]
    return [value] if isinstance(value, list | tuple) else np.asarray(value)[None]
