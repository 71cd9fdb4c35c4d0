"""What things are checked on: problems and symmetries by name, instances, mini-batches, points."""

from __future__ import annotations

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.problems import problem_from
from teleport_env.problems.base import Problem
from teleport_env.problems.data import MiniBatches
from teleport_env.random import Streams, key_of
from teleport_env.reading import known
from teleport_env.symmetries.base import Symmetry


def problem_of(problem: str | Problem) -> Problem:
    """The problem, or the registered one of that name; raises TypeError for anything else."""
    if isinstance(problem, str):
        return problem_from(problem)
    if not isinstance(problem, Problem):
        hint = "; call it first" if isinstance(problem, type) and issubclass(problem, Problem) else ""
        raise TypeError(f"expected a Problem or the name of one, got {problem!r}{hint}")
    return problem


def symmetry_of(symmetry: str | Symmetry, problem: Problem) -> Symmetry:
    """The symmetry, or the problem's own of that name; raises ValueError where there is none."""
    if isinstance(symmetry, Symmetry):
        return symmetry
    return problem.symmetries[known(f"the symmetry of {problem.name}", symmetry, problem.symmetries)]


def streams_of(count: int, purpose: str | None = None) -> Streams:
    """Random numbers of ``count`` runs, the same whenever they are asked for that purpose."""
    streams = Streams(torch.arange(count, device="cpu"))
    return streams if purpose is None else streams.fork(key_of(purpose))


def ids_of(problem: Problem, split: str, count: int) -> Tensor:
    """The first ``count`` ids of a split, from the beginning again where it holds fewer."""
    limit = problem.num_instances(split)
    ids = torch.arange(count, device="cpu")
    return ids if limit is None else ids % limit


def batch_at(problem: Problem, instance: Instance, step: int = 0) -> Batch:
    """The mini-batch of each run at a step, as `Runs` draws it; None where the problem has none."""
    if problem.batch_size is None:
        return None
    batches = MiniBatches(problem.num_examples(instance), problem.batch_size)
    return batches.indices(instance["order_key"], torch.full_like(instance["order_key"], step))


def rows_of(rows: Tensor, params: Tensor, instance: Instance, batch: Batch) -> tuple[Tensor, Instance, Batch]:
    """What a loss is evaluated on, of the runs ``rows`` ``(R,)`` alone."""
    return params[rows], instance.select(rows), None if batch is None else batch[rows]


def tensors_of(instance: Instance) -> dict[str, Tensor]:
    """Everything in an instance that has a row per run."""
    return {"start": instance.start, **instance.tensors}


def generic_point(problem: Problem, instance: Instance, batch: Batch) -> Tensor:
    """Points near the starts, which may be special; the starts themselves where the loss is not finite nearby."""
    start = instance.start
    shift = streams_of(len(instance), "generic point").normal((start.shape[1],), start.dtype)
    point = start + 0.1 * shift * start.abs().clamp_min(0.5)
    with torch.no_grad():
        finite = bool(torch.isfinite(problem.loss(point, instance, batch)).all())
    return point if finite else start.clone()
