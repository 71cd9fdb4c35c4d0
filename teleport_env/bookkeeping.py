"""What a step makes of the runs' numbers, in place: through compiled kernels, NumPy or torch.

Kernels (`teleport_env.native`) serve float64 on the CPU. They have the bits of NumPy for runs with few parameters; sums over
many parameters agree to rounding. Logarithms are NumPy's in both cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from teleport_env.arrays import Array, arrays_of
from teleport_env.ledger import GRADIENT
from teleport_env.native import KERNELS
from teleport_env.optimizers import row_dot
from teleport_env.progress import AT, DIVERGED_ABOVE, FLOATS, HUGE, SMALLEST, Blocks

_COUNTED = AT["teleports"]  # integers that every step raises come before this one


def _doubles(values: Tensor) -> np.ndarray:
    # torch takes a microsecond to see that there is nothing to convert
    return (values if values.dtype is torch.float64 else values.to(torch.float64)).numpy()


class Bookkeeper:
    """Keeps `Progress` up to date, in place.

    Args:
        blocks: The numbers' memory; ``floats`` (by name: ``row``), ``integers`` and ``diverged`` are views of it.
        columns: ``(5, P, B)`` for runs with few parameters, else None: parameters, gradient, new gradient, minus the change
            of the gradient, minus the update.

    Attributes:
        dot: Inner products of the rows of two ``(B, P)`` tensors, for runs with many parameters without kernels.
        kernels: The compiled kernels; None where they do not serve.
        sane: Whether no run diverged at the last step.
        some_diverged: False if no run here has diverged, true if one may have.
    """

    def __init__(self, blocks: Blocks, columns: Tensor | None = None) -> None:
        self.dot: Callable[[Tensor, Tensor], Tensor] = row_dot
        self.blocks = blocks
        self.xp = xp = arrays_of(blocks.floats.device)
        dtype, count = blocks.floats.dtype, blocks.floats.shape[1]
        self.tiny, self.huge = SMALLEST[dtype], HUGE[dtype]
        floats, integers = xp.view(blocks.floats), xp.view(blocks.integers)
        self.floats, self.integers, self.diverged = floats, integers, xp.view(blocks.diverged)
        self.kernels: Any = KERNELS if isinstance(floats, np.ndarray) and dtype == torch.float64 else None

        def rows(first: str, last: str, step: int = 1) -> Array:
            return floats[AT[first] : AT[last] + 1 : step]

        self.row = {name: floats[i] for i, name in enumerate(FLOATS)}
        self._counts = integers[:_COUNTED]
        self._squares, self._lengths = rows("grad_norm2", "turn2"), rows("grad_norm", "turn_length")
        self._ratios, self._decreases = rows("cosine", "curvature"), rows("last_decrease", "last_grad_decrease")
        self._logged, self._logs = rows("loss", "grad_norm2"), rows("log_loss", "log_grad_norm2")
        self.sane, self.some_diverged = True, True
        self._parts = xp.empty(floats, 3, count, dtype=dtype)  # what the ratios are divided by; what is to be logged
        self._two, self._third = self._parts[:2], self._parts[2]
        self._sane = xp.empty(floats, count, dtype=torch.bool)
        self._finite = xp.empty(floats, count, dtype=torch.bool)
        self.few = columns is not None
        if columns is not None:
            self.params, self.gradient, self.new_gradient, self.turned, self.update = xp.view(columns)
            self._both = xp.view(columns)[2:4]
            size = columns.shape[1]
            self._products = xp.empty(floats, 2, size, count, dtype=dtype)
            self.scratch = self._products[0]
            self._chain, self._two_chains = list(self.scratch), [self._products[:, k] for k in range(size)]

    # -- steps ---------------------------------------------------------------------------------------------------------

    def scale_rates(self, factor: Tensor, most: float) -> None:
        """Multiply the learning rates by ``factor`` ``(B,)``, within the factor ``most`` of their base."""
        rate, base, xp = self.blocks.floats[AT["learning_rate"]], self.blocks.floats[AT["base_rate"]], self.xp
        rate.mul_(factor).clamp_(base / most, base * most)
        xp.at_least(self.row["learning_rate"], self.tiny, out=self.row["log_rate"])
        xp.log10(self.row["log_rate"], out=self.row["log_rate"])

    def descend(self, params: Tensor, gradient: Tensor, waiting: Tensor | None = None) -> Tensor:
        """Parameters ``(B, P)`` after ``w - lr g``, which may lie in the memory of those before.

        Args:
            params: ``(B, P)``: those before.
            gradient: ``(B, P)`` there.
            waiting: ``(B,)`` bool: runs that stay; only with kernels.
        """
        xp, rate = self.xp, self.row["learning_rate"]
        if self.kernels is not None:
            at = (self.params, self.gradient) if self.few else (xp.view(params), xp.view(gradient))
            self.kernels.descend(*at, rate, None if waiting is None else waiting.numpy(), not self.few)
        elif self.few:
            xp.multiply(self.gradient, rate, out=self.update)
            xp.subtract(self.params, self.update, out=self.params)
        else:
            # not addcmul, which rounds once or twice depending on the processor
            return params - self.blocks.floats[AT["learning_rate"], :, None] * gradient
        return params

    def book_descent(
        self, loss: Tensor, gradient: Tensor, new_gradient: Tensor, accounts: Array, waiting: Tensor | None = None
    ) -> Tensor:
        """After a step ``w - lr g``, which cost a gradient: make the numbers those of the new point.

        The update is a multiple of the gradient before, so that one product of it with the change of the gradient, ``s``,
        does for all: ``<g, g'> = |g|^2 - s`` and ``<dw, dg> = lr s``, and the factors of ``lr`` cancel.

        Args:
            loss: ``(B,)`` at the new point.
            gradient: ``(B, P)`` at the one before.
            new_gradient: ``(B, P)`` at the new point.
            accounts: ``(2, B)``: what has been spent, in all and on gradients.
            waiting: ``(B,)`` bool: runs whose numbers stay; only with kernels.

        Returns:
            The gradient ``(B, P)`` from now on.
        """
        if self.kernels is not None:
            return self._book(loss, gradient, new_gradient, None, accounts, waiting)
        xp, row = self.xp, self.row
        xp.add(accounts, GRADIENT, out=accounts)
        row["loss"][...] = xp.view(loss)
        if self.few:
            self.new_gradient[...] = xp.view(new_gradient).T
            xp.subtract(self.gradient, self.new_gradient, out=self.turned)
            xp.multiply(self.gradient, self.turned, out=self.scratch)
            self._sum(self._chain, row["curvature"])
        else:
            turned = gradient - new_gradient
            row["curvature"][...] = xp.view(self.dot(gradient, turned))
        row["alignment"][...] = row["curvature"]
        xp.subtract(row["grad_norm2"], row["curvature"], out=row["cosine"])
        xp.multiply(row["grad_norm2"], row["learning_rate"], out=self._third)
        row["update_norm"][...] = row["grad_norm"]
        xp.multiply(row["log_grad_norm2"], 0.5, out=row["log_update_norm"])
        if self.few:
            self._end_columns()
        else:
            gradient = new_gradient
            self._end_rows(turned, new_gradient)
        xp.multiply(self._lengths, row["update_norm"], out=self._two)
        self._follow()
        return gradient

    def book(
        self, loss: Tensor, params: Tensor, moved: Tensor, gradient: Tensor, new_gradient: Tensor, accounts: Array
    ) -> Tensor:
        """The same after any step, from ``params`` to ``moved`` ``(B, P)``, which has been paid."""
        xp, row = self.xp, self.row
        update = params - moved
        if self.kernels is not None:
            return self._book(loss, gradient, new_gradient, update, accounts, None)
        row["loss"][...] = xp.view(loss)
        if self.few:
            self.update[...] = xp.view(update).T
            self.new_gradient[...] = xp.view(new_gradient).T
            xp.subtract(self.gradient, self.new_gradient, out=self.turned)
            for a, b, out in (
                (self.update, self.turned, row["curvature"]),
                (self.gradient, self.new_gradient, row["cosine"]),
                (self.update, self.update, self._third),
            ):
                xp.multiply(a, b, out=self.scratch)
                self._sum(self._chain, out)
            row["update_norm"][...] = row["grad_norm"]
            self._end_columns()
        else:
            turned = gradient - new_gradient
            row["curvature"][...] = xp.view(self.dot(update, turned))
            row["cosine"][...] = xp.view(self.dot(gradient, new_gradient))
            self._third[...] = xp.view(self.dot(update, update))
            row["update_norm"][...] = row["grad_norm"]
            gradient = new_gradient
            self._end_rows(turned, new_gradient)
        self._end_any()
        return gradient

    def _book(
        self,
        loss: Tensor,
        gradient: Tensor,
        new_gradient: Tensor,
        update: Tensor | None,
        accounts: Array,
        waiting: Tensor | None,
    ) -> Tensor:
        """`book_descent` (without an update) and `book`, through kernels."""
        fresh, changes = self._dense(new_gradient), None if update is None else self._dense(update)
        logged = self._two if update is None else self._parts
        stays = None if waiting is None else waiting.numpy()
        numbers = self.floats, self.integers, self.diverged, accounts
        before = self.gradient if self.few else gradient.numpy()
        self.sane = self.kernels.book(
            *(*numbers, _doubles(loss), before, fresh, changes, not self.few, logged, stays),
            *(GRADIENT if update is None else 0.0, self.tiny, self.huge),
        )
        np.log10(logged, out=logged)
        self.kernels.close_step(self.floats, logged, stays)
        self.some_diverged = self.some_diverged or not self.sane
        if self.few:
            return gradient
        if stays is not None:  # few runs wait, and their rows alone are copied; gradients are the runs' own memory
            fresh[stays] = before[stays]
        return torch.from_numpy(fresh)

    def _dense(self, rows: Tensor) -> np.ndarray:
        """``(B, P)`` as kernels take it: turned where there are few parameters. No row shares its memory with another."""
        array = rows.numpy()
        if self.few:
            array = array.T
        if (
            array.dtype == np.float64
            and array.strides[0]
            and (array.shape[1] == 1 or array.strides[1] == array.itemsize)
        ):
            return array
        return np.ascontiguousarray(array, dtype=np.float64)

    # -- through NumPy and torch ---------------------------------------------------------------------------------------

    # A step has written the squared lengths of the new gradient and of the gradient's change, the norm of the update over
    # the rate and its logarithm, in the rows of the cosine, the alignment and the curvature the products, and into `_parts`
    # what these are to be divided by.

    def _end_columns(self) -> None:
        """Squared lengths and lengths of the new gradient and of the change; the new gradient becomes the gradient."""
        xp = self.xp
        xp.multiply(self._both, self._both, out=self._products)
        self._sum(self._two_chains, self._squares)
        self.gradient[...] = self.new_gradient
        xp.sqrt(self._squares, out=self._lengths)

    def _end_rows(self, turned: Tensor, new_gradient: Tensor) -> None:
        """The lengths, of many parameters."""
        self.row["grad_norm2"][...] = self.xp.view(self.dot(new_gradient, new_gradient))
        self.row["turn2"][...] = self.xp.view(self.dot(turned, turned))
        self.xp.sqrt(self._squares, out=self._lengths)

    def _end_any(self) -> None:
        """With the gradient norm before in the row of the update norm, and the squared length of the update in `_parts`."""
        xp, row, (first, second, third) = self.xp, self.row, self._parts
        row["alignment"][...] = row["curvature"]
        xp.multiply(row["update_norm"], row["grad_norm"], out=first)
        xp.sqrt(third, out=row["update_norm"])
        xp.multiply(row["update_norm"], row["turn_length"], out=second)
        xp.divide(row["update_norm"], row["learning_rate"], out=row["update_norm"])
        xp.at_least(row["update_norm"], self.tiny, out=row["turn2"])  # which is not needed any more
        xp.log10(row["turn2"], out=row["log_update_norm"])
        self._follow()

    def _sum(self, terms: list[Array], out: Array) -> None:
        """A chain of additions: `row_dot` explains why."""
        if len(terms) == 1:
            out[...] = terms[0]
            return
        self.xp.add(terms[0], terms[1], out=out)
        for term in terms[2:]:
            self.xp.add(out, term, out=out)

    def _follow(self) -> None:
        """What follows from the numbers written before."""
        xp, row = self.xp, self.row
        xp.at_least(self._parts, self.tiny, out=self._parts)
        xp.divide(self._ratios, self._parts, out=self._ratios)
        self._decreases[...] = self._logs  # of the loss and gradient norm before
        xp.at_least(self._logged, self.tiny, out=self._two)
        xp.log10(self._two, out=self._logs)
        xp.subtract(self._decreases, self._logs, out=self._decreases)
        xp.multiply(row["last_grad_decrease"], 0.5, out=row["last_grad_decrease"])
        xp.add(self._counts, 1, out=self._counts)
        # comparisons with a NaN are false
        xp.less_equal(row["loss"], row["limit"], out=self._sane)
        xp.less(row["grad_norm2"], self.huge, out=self._finite)
        xp.logical_and(self._sane, self._finite, out=self._sane)
        self.sane = bool(xp.count_nonzero(self._sane) == len(self._sane))  # a third of the time of `all` on a few
        if not self.sane:
            self.some_diverged = True
            xp.logical_not(self._sane, out=self._sane)
            xp.logical_or(self.diverged, self._sane, out=self.diverged)

    # -- other changes -------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Make what is kept beside `Progress` agree with it, after its numbers changed."""
        self.some_diverged = bool(self.diverged.any())
        self.derive(self.floats)

    def derive(self, floats: Array) -> None:
        """The same within the numbers ``floats`` ``(len(FLOATS), R)`` of any runs."""
        xp = self.xp
        for first, last, into in (
            ("loss", "grad_norm2", "log_loss"),
            ("initial_loss", "base_rate", "log_initial_loss"),
        ):
            rows = slice(AT[first], AT[last] + 1)
            logs = floats[AT[into] : AT[into] + rows.stop - rows.start]
            xp.at_least(floats[rows], self.tiny, out=logs)
            xp.log10(logs, out=logs)
        xp.sqrt(floats[AT["grad_norm2"]], out=floats[AT["grad_norm"]])
        xp.multiply(floats[AT["initial_loss"]], DIVERGED_ABOVE, out=floats[AT["limit"]])
        xp.at_most(floats[AT["limit"]], self.huge, out=floats[AT["limit"]])
