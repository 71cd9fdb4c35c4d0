"""Rows are promised to be independent with one thread of torch; what plays side by side sees to it."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import numpy as np, torch
import teleport_env.agents
from teleport_env.agents.base import agent_from
from teleport_env.agents.play import play

torch.set_num_threads(2)
agent, ids = agent_from("never"), np.arange(5)
settings = {"problem": {"dimension": 100}}
many = play("Quadratic", agent, ids, split="train", budget=12.0, settings=settings)
for i in range(5):
    one = play("Quadratic", agent, ids[i : i + 1], split="train", budget=12.0, settings=settings)
    assert np.array_equal(one.loss[:, 0], many.loss[:, i]), f"row {i} alone differs by {one.loss[:, 0] - many.loss[:, i]}"
assert torch.get_num_threads() == 2, "the number of threads is the caller's"
"""


def test_played_rows_do_not_depend_on_their_company() -> None:
    """Regression: a product of one run was shared out among two threads, those of several runs were not.

    In the mode of MKL that every processor has; it is the one of AMD's.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_CBWR": "COMPATIBLE"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
