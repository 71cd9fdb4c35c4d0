"""The trajectories of a comparison as files, one for each problem, agent and seed (`teleport_env.envs.recording`)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import gymnasium as gym
import numpy as np
import torch

from teleport_env.agents.base import Agent
from teleport_env.agents.play import episodes, one_thread
from teleport_env.envs.recording import RecordVectorTrajectories
from teleport_env.random import seeds_of_rows
from teleport_env.registration import id_of


def file_of(folder: Path, problem: str, agent: str, seed: int) -> Path:
    """Where the trajectories of an agent lie: ``<folder>/<problem>/<agent>-<seed>.parquet``."""
    return folder / problem / f"{quote(agent, safe='')}-{seed}.parquet"


@one_thread()
def record(
    folder: Path,
    problem: str,
    agent: Agent,
    instance_ids: np.ndarray,
    *,
    split: str,
    budget: float | None = None,
    seed: int = 0,
) -> Path:
    """Play the episodes that `play_all` plays once more, and write every moment of them.

    Args:
        folder: Folder of the file; see `file_of`.
        problem: Registered name.
        agent: Agent that plays.
        instance_ids: ``(B,)``, the instances; episode ``i`` of the file is that of the ``i``-th.
        split: Their split.
        budget: Gradient evaluations per episode; None: the agent's environment's, or the problem's default.
        seed: Seed of the random numbers that searches draw.

    Raises:
        ImportError: pyarrow is missing; the message names the extra.
    """
    path = file_of(folder, problem, agent.name, seed)
    arguments = {**agent.environment, **({} if budget is None else {"budget": budget})}
    envs = gym.make_vec(id_of(problem), num_envs=len(instance_ids), autoreset_mode="Disabled", split=split, **arguments)
    labels = {"problem": problem, "agent": agent.name, "seed": seed, "split": split}
    recorded = RecordVectorTrajectories(envs, path, labels)
    with torch.no_grad():
        seeds = list(seeds_of_rows(seed, len(instance_ids)))
        for _ in episodes(recorded, agent, seed=seeds, options={"instance_id": instance_ids}):
            pass
    recorded.close()
    return path
