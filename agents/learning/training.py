"""Training a schedule: a `Course` from its checkpoint, or from the beginning, to its end."""

from __future__ import annotations

from collections.abc import Callable

import torch

from teleport_env.agents.learning.course import Course, Trained
from teleport_env.agents.learning.moves_course import MovesCourse
from teleport_env.agents.learning.settings import Training


def train(training: Training, report: Callable[[str], None] = print, until: int | None = None) -> Trained:
    """Train a schedule, or go on with a training whose checkpoint lies in ``training.out``.

    Args:
        training: The settings.
        report: Called with a line of text now and then.
        until: Stop before this segment, as if cut off; None: train to the end.

    Raises:
        ValueError: The folder holds the checkpoint of another training, or cannot be written.
        FileNotFoundError: The data of a problem are missing.
        PolicyFileError: The checkpoint is damaged.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are small
    try:
        run = (MovesCourse if training.task.action_mode == "group" else Course)(training, report)
        for segment in run.remaining(until):
            run.segment(segment)
        return run.finish()
    finally:
        torch.set_num_threads(threads)
