"""A loss with its symmetries, and the distribution its instances come from.

A `Problem` is stateless. What differs between runs is an `Instance` (`teleport_env.instances`).

Searches and optimizers reach a loss through an `Evaluator` only, which counts what they evaluate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.ledger import Counts
from teleport_env.random import Streams, fold_in, key_of
from teleport_env.reading import known
from teleport_env.symmetries.base import Symmetry

SPLITS = ("paper", "train", "validation", "test")
"""Distributions of instances: the publication's own start, and three disjoint ones."""


@dataclass(frozen=True)
class Defaults:
    """What an environment uses where its user says nothing.

    Attributes:
        optimizer: Name of the update rule.
        learning_rate: Its base learning rate.
        searches: The menu of the schedule mode, names or dicts.
        symmetry: Name of the symmetry that acts; None: the problem's first.
        budget: Gradient evaluations that an episode may spend.
        tolerance: Loss at which a run has converged.
        steps_per_action: Gradient steps that one step action takes.
        group_scale: Length of ``xi`` at the corner of the box of group actions, an angle or a logarithm.
        dtype: Precision.
    """

    optimizer: str = "gd"
    learning_rate: float = 1e-3
    searches: tuple[Any, ...] = ("gradient_ascent",)
    symmetry: str | None = None
    budget: float = 100.0
    tolerance: float = 1e-12
    steps_per_action: int = 1
    group_scale: float = 1.0
    dtype: torch.dtype = torch.float64


class Problem(ABC):
    """A batched loss, its symmetries and its instances.

    A user's own problem defines `sample`, `loss` and, where it has any, `symmetries`; everything else has a default.
    Gradients come from autograd unless `loss_and_gradient` is overridden.
    """

    name: str = ""
    """Registered name, which is a part of the id."""

    # -- what a problem must say ---------------------------------------------------------------------------------------

    @abstractmethod
    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        """Draw ``count`` instances in float64 on the generator's device.

        Args:
            generator: ``count`` streams; row ``i`` of the result may use row ``i`` of its draws only.
            count: ``B``.
            split: ``"paper"``, ``"train"``, ``"validation"`` or ``"test"``. Different splits are given different streams,
                so a problem may draw all of them alike; ``"paper"`` is the publication's own start where there is one.
        """

    @abstractmethod
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """The loss ``(B,)`` at ``params`` ``(B, P)``, differentiable, each row from its own row of everything."""

    # -- what it may say -----------------------------------------------------------------------------------------------

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        """Names to symmetries, the default first; may be empty."""
        return {}

    def defaults(self, split: str = "train") -> Defaults:
        """Settings for environments of this problem."""
        return Defaults()

    def searches_for(self, symmetry: str, split: str = "train") -> tuple[Any, ...]:
        """The menu of teleports for a symmetry that is not the default one."""
        group = self.symmetries[symmetry].group
        return ("gradient_ascent",) if group.continuous else ("random",)

    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        """Loss ``(B,)`` and gradient ``(B, P)``, without a graph."""
        with torch.enable_grad():
            w = params.detach().requires_grad_(True)
            loss = self.loss(w, instance, batch)
            # rows are independent, so the gradient of the sum is every row's own gradient
            (gradient,) = torch.autograd.grad(loss.sum(), w)
        return loss.detach(), gradient

    @property
    def output_curvature(self) -> float | None:
        """Second derivative of the loss in every output, for losses that are squared errors of a network's outputs."""
        return None

    def layer_inputs(self, params: Tensor, instance: Instance, batch: Batch = None) -> list[Tensor | None] | None:
        """What goes into every layer of a network, ``(B, in, n)`` each, one column per example; None: it is no network.

        An entry that is None stands for the identity.

        Searches that shape a layer's inputs ask for it (`teleport_env.searches.whiten`), and pay for it by operations.
        """
        return None

    @property
    def blocks(self) -> int:
        """Number of blocks of parameters in each of which the loss is a least-squares problem (`block_minimum`)."""
        return 0

    def block_minimum(self, block: int, params: Tensor, instance: Instance) -> Tensor:
        """``params`` ``(B, P)`` with the given block at its minimiser, the other parameters held; a new tensor.

        Solvers that know the structure of a problem ask for it, and pay `block_flops`. A row without a solution is not
        finite.

        Args:
            block: Its number, below `blocks`.
            params: ``(B, P)``.
            instance: ``B`` instances.

        Raises:
            NotImplementedError: No block of this problem is a least-squares problem.
        """
        raise NotImplementedError(f"{type(self).__name__} has no block of parameters that least squares would solve")

    def block_flops(self, block: int, instance: Instance) -> float:
        """Floating-point operations of one `block_minimum` of one run."""
        return 0.0

    def minimum(self, instance: Instance) -> Tensor | None:
        """The minimiser ``(B, P)``, where it is known."""
        return None

    def minimum_flops(self, instance: Instance) -> float:
        """Floating-point operations of one `minimum` of one run."""
        return 2.0 / 3.0 * instance.start.shape[1] ** 3

    def residuals(self, params: Tensor, instance: Instance) -> Tensor:
        """Residuals ``(B, m)``, whose sum of squares is the loss up to a factor and a constant; differentiable.

        Solvers for nonlinear least squares ask for it.

        Raises:
            NotImplementedError: The loss is no such sum.
        """
        raise NotImplementedError(f"the loss of {type(self).__name__} is not known to be a sum of squares")

    def jacobian_price(self, instance: Instance) -> float:
        """Price of the derivative of `residuals` in all parameters, in gradient evaluations."""
        return float(min(self.residuals(instance.start, instance).shape[1], instance.start.shape[1]))

    def num_instances(self, split: str) -> int | None:
        """How many instances a split has; None: as many as there are 53-bit integers."""
        return None

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        """Floating-point operations of one loss-and-gradient evaluation of one run, the ledger's unit."""
        return 6.0 * instance.start.shape[1]

    def check_data(self) -> None:  # noqa: B027 (most problems have no data)
        """See that the data are there, without reading them; every environment does when it is made.

        Raises:
            DataMissing: A file is missing.
            ImportError: A package that brings the data is not installed.
        """

    # -- mini-batches --------------------------------------------------------------------------------------------------

    @property
    def batch_size(self) -> int | None:
        """Examples in a mini-batch; None: the problem has no mini-batches."""
        return None

    def num_examples(self, instance: Instance) -> int:
        """Size of the training set, which mini-batches are drawn from."""
        raise NotImplementedError(f"{type(self).__name__} does not say how many examples it has")

    def evaluate(self, params: Tensor, instance: Instance) -> dict[str, Tensor]:
        """Measurements that no budget pays for, each ``(B,)``: ``loss`` on the whole training set, and where there is a
        validation set ``validation_loss`` and ``validation_accuracy``."""
        with torch.no_grad():
            return {"loss": self.loss(params, instance)}

    # -- what follows --------------------------------------------------------------------------------------------------

    def instances(
        self, ids: Tensor, split: str, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Instance:
        """The instances with the given ids ``(B,)`` of a split: the same numbers alone and in a batch.

        Raises:
            ValueError: The split is unknown or an id lies outside it.
        """
        split = known("split", split, SPLITS)
        limit = self.num_instances(split)
        if limit is not None and bool(((ids < 0) | (ids >= limit)).any()):
            raise ValueError(
                f"instance_id {ids.tolist()} is outside split {split!r} of {self.name}, whose ids are 0..{limit - 1}"
            )
        ids = ids.to("cpu", torch.int64, copy=True)  # runs that begin anew write into them
        streams = Streams(fold_in(ids, key_of(f"{self.name}/{split}")))
        drawn = replace(self.sample(streams, len(ids), split), ids=ids)
        return self.place(drawn, split, dtype, device)

    def place(self, drawn: Instance, split: str, dtype: torch.dtype, device: torch.device | str) -> Instance:
        """Freshly drawn instances in the precision and on the device of the runs.

        A problem whose rows share much data overrides this to convert the data once and not at every reset.
        """
        return drawn.to(dtype, device)


class Evaluator:
    """The loss of ``R`` runs on their current data, every call counted.

    Args:
        problem: The problem.
        instance: ``R`` instances.
        batch: The current mini-batch of each, or None.
    """

    def __init__(self, problem: Problem, instance: Instance, batch: Batch = None) -> None:
        self.problem = problem
        self.instance = instance
        self.batch = batch
        self.counts = Counts()
        self._repeated: dict[int, Instance] = {}

    def __len__(self) -> int:
        return len(self.instance)

    def repeated(self, count: int) -> Instance:
        """The instances, every one ``count`` times in a row."""
        if count not in self._repeated:
            self._repeated[count] = self.instance.repeat(count)
        return self._repeated[count]

    def charge(self, counts: Counts) -> None:
        """Count work done elsewhere; each count a float, or ``(R,)``."""
        self.counts = self.counts + counts

    def loss(self, params: Tensor, where: Tensor | None = None) -> Tensor:
        """One forward pass at ``params`` ``(R, P)``, or at ``(R, K, P)`` for ``K`` candidates per run: ``(R,)``, ``(R, K)``.

        Args:
            where: ``(R,)`` bool; the other rows are neither evaluated nor charged, and come back as NaN.
        """
        if where is not None and not bool(where.all()):
            out = params.new_full(params.shape[:-1], torch.nan)
            rows = where.nonzero().squeeze(1)
            if len(rows):
                out[rows] = self._call(params[rows], rows, gradient=False)[0]
            self.charge(Counts(forward=where.to(torch.float64) * self._candidates(params)))
            return out
        self.charge(Counts(forward=self._candidates(params)))
        return self._call(params, None, gradient=False)[0]

    def loss_and_gradient(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at ``params`` ``(R, P)`` or ``(R, K, P)``: ``(R,)`` and ``(R, P)``, or with the axis ``K``."""
        self.charge(Counts(gradient=self._candidates(params)))
        loss, gradient = self._call(params, None, gradient=True)
        assert gradient is not None
        return loss, gradient

    def hessian_vector(self, params: Tensor, vector: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Loss ``(R,)``, gradient ``(R, P)`` and Hessian times ``vector`` ``(R, P)`` at ``params`` ``(R, P)``.

        Without a ``vector`` it is the gradient just evaluated. Charged as one gradient and one Hessian-vector product.
        """
        self.charge(Counts(gradient=1.0, hessian_vector=1.0))
        with torch.enable_grad():
            w = params.detach().requires_grad_(True)
            loss = self.problem.loss(w, self.instance, self.batch)
            (gradient,) = torch.autograd.grad(loss.sum(), w, create_graph=True)
            along = gradient if vector is None else vector
            (product,) = torch.autograd.grad((gradient * along.detach()).sum(), w)
        return loss.detach(), gradient.detach(), product

    @staticmethod
    def _candidates(params: Tensor) -> float:
        return float(params.shape[1]) if params.ndim == 3 else 1.0

    def _call(self, params: Tensor, rows: Tensor | None, gradient: bool) -> tuple[Tensor, Tensor | None]:
        instance = self.instance if rows is None else self.instance.select(rows)
        batch = self.batch if rows is None or self.batch is None else self.batch[rows]
        shape = params.shape
        if params.ndim == 3:
            instance = self.repeated(shape[1]) if rows is None else instance.repeat(shape[1])
            batch = None if batch is None else batch.repeat_interleave(shape[1], dim=0)
            params = params.reshape(-1, shape[-1])
        if gradient:
            loss, grad = self.problem.loss_and_gradient(params, instance, batch)
            return loss.reshape(shape[:-1]), grad.reshape(shape)
        with torch.no_grad():
            return self.problem.loss(params, instance, batch).reshape(shape[:-1]), None
