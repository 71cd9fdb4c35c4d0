"""Checks of a problem's loss and of its gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from teleport_env.checks.cases import batch_of_row, generic_point, only_row, streams_of, tensors_of
from teleport_env.checks.report import DTYPE_REMEDY, SAFE_REMEDY, Checks, identical
from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import Problem

MIXING_REMEDY = "Compute row i from row i of everything alone: no sum, mean or maximum over the first axis"


def check_loss(checks: Checks, problem: Problem, instance: Instance, batch: Batch) -> None:
    count, start = len(instance), instance.start
    for name, point in {"the start": start, "a point nearby": generic_point(problem, instance, batch)}.items():
        before = point.clone()
        with (
            torch.no_grad(),
            checks.trying(f"loss at {name}", "It is given params (B, P), instances, and a batch or None"),
        ):
            loss = problem.loss(point, instance, batch)
            twice = problem.loss(point, instance, batch)
        checks.require(
            isinstance(loss, Tensor) and loss.shape == (count,),
            f"loss returned shape {tuple(loss.shape) if isinstance(loss, Tensor) else type(loss)} for {count} runs",
            f"Return one number a run, ({count},): sum or average over everything but the first axis",
        )
        checks.require(loss.dtype == point.dtype, f"loss is {loss.dtype} for {point.dtype} parameters", DTYPE_REMEDY)
        checks.require(torch.equal(point, before), "loss writes into the parameters", "Compute out of place")
        checks.require(identical(loss, twice), "loss differs between two calls", "Draw random numbers in `sample` only")
        row = int((~torch.isfinite(loss)).int().argmax())
        checks.require(
            torch.isfinite(loss).all(),
            f"loss at {name} is {float(loss[row])} in row {row}",
            "Draw starts from which a run can begin",
        )
        for row in range(count):
            alone = problem.loss(point[row : row + 1], instance.select(only_row(row)), batch_of_row(batch, row))
            checks.same_row("loss", alone.detach()[0], loss[row], row, count, MIXING_REMEDY)
    checks.passed += ["loss: shape, precision, finite, repeatable", "loss: rows are independent"]
    spoiled = start.clone()
    spoiled[0] = torch.nan
    with torch.no_grad(), checks.trying("loss with one run of NaN", SAFE_REMEDY):
        broken, sound = problem.loss(spoiled, instance, batch), problem.loss(start, instance, batch)
    checks.require(identical(broken[1:], sound[1:]), "loss: a run of NaN changes other rows", MIXING_REMEDY)
    checks.require(
        ~torch.isfinite(broken[0]),
        f"loss of a run of NaN is {float(broken[0])}",
        "Let NaN through (no nan_to_num): it tells that a run has diverged",
    )
    checks.passed.append("loss: a run that diverged harms nobody")


def check_gradient(checks: Checks, problem: Problem, instance: Instance, batch: Batch) -> None:
    count = len(instance)
    own = type(problem).loss_and_gradient is not Problem.loss_and_gradient
    for name, point in {
        "the start": instance.start,
        "a point nearby": generic_point(problem, instance, batch),
    }.items():
        before = point.clone()
        with checks.trying(
            f"the gradient of loss at {name}",
            "`loss` must be made of differentiable torch operations, without .item(), .detach() or NumPy",
        ):
            loss, automatic = Problem.loss_and_gradient(problem, point, instance, batch)
        size = automatic.abs().amax(dim=1).clamp_min(1e-300)
        _compare_with_differences(checks, problem, point, loss, automatic, instance, batch)
        with checks.trying("loss_and_gradient", "See `Problem.loss_and_gradient`"):
            value, gradient = problem.loss_and_gradient(point, instance, batch)
        checks.require(
            gradient.shape == point.shape and value.shape == (count,),
            f"loss_and_gradient returned shapes {tuple(value.shape)} and {tuple(gradient.shape)}",
            f"Return ({count},) and {tuple(point.shape)}",
        )
        checks.require(
            not (value.requires_grad or gradient.requires_grad),
            "loss_and_gradient returned a graph",
            "Detach what it returns: graphs of many steps fill the memory",
        )
        checks.require(
            torch.equal(point, before), "loss_and_gradient writes into the parameters", "Compute out of place"
        )
        wrong = (gradient - automatic).abs() / size[:, None]
        row, entry = divmod(int(wrong.nan_to_num(math.inf).argmax()), point.shape[1])
        checks.require(
            (wrong <= 1e-8).all(),
            f"loss_and_gradient gives {float(gradient[row, entry]):.6g} for parameter {entry} in row {row} at {name}, and "
            f"autograd of `loss` {float(automatic[row, entry]):.6g}",
            "Correct the formula, or leave `loss_and_gradient` out: autograd takes its place",
        )
        off = (value - loss).abs() / loss.abs().clamp_min(1e-300)
        row = int(off.argmax())
        checks.require(
            (off <= 1e-10).all() | identical(value, loss),
            f"loss_and_gradient gives the loss {float(value[row]):.10g} in row {row}, and `loss` {float(loss[row]):.10g}",
            "Compute the same loss in both",
        )
        for row in range(count):
            only = problem.loss_and_gradient(
                point[row : row + 1], instance.select(only_row(row)), batch_of_row(batch, row)
            )
            for what, alone, together in (("loss", only[0], value), ("gradient", only[1], gradient)):
                checks.same_row(f"loss_and_gradient, {what}", alone[0], together[row], row, count, MIXING_REMEDY)
    checks.passed.append("gradient: autograd agrees with central differences")
    if own:
        checks.passed.append("gradient: loss_and_gradient agrees with autograd of loss")
    checks.passed.append("gradient: rows are independent")


def _compare_with_differences(
    checks: Checks, problem: Problem, point: Tensor, loss: Tensor, gradient: Tensor, instance: Instance, batch: Batch
) -> None:
    """Autograd against central differences: along each parameter of small problems, along a few directions of large ones."""
    count, size = point.shape
    named = size <= 64
    if named:
        directions = torch.eye(size, dtype=point.dtype, device=point.device).expand(count, -1, -1)
    else:
        directions = streams_of(count, "directions").normal((3, size))
        length = gradient.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-300)
        directions = torch.cat([directions / math.sqrt(size), (gradient / length)[:, None, :]], dim=1)
    step = 6e-6 * point.abs().amax(dim=1, keepdim=True).clamp_min(1.0)
    for index, direction in enumerate(directions.unbind(1)):
        with torch.no_grad():
            ahead, behind = (problem.loss(point + sign * step * direction, instance, batch) for sign in (1.0, -1.0))
        slope = (ahead - behind) / (2.0 * step[:, 0])
        wanted = (gradient * direction).sum(dim=1)
        rounding = 1e2 * torch.finfo(point.dtype).eps * loss.abs() / step[:, 0]
        right = (slope - wanted).abs() <= 1e-5 * gradient.abs().amax(dim=1) + rounding  # false for NaN
        row = int((~right).int().argmax())
        what = f"parameter {index}" if named else "a direction"
        checks.require(
            right.all(),
            f"the gradient of `loss` by autograd is {float(wanted[row]):.6g} along {what} in row {row}, and by central "
            f"differences {float(slope[row]):.6g}",
            "Something in `loss` is hidden from autograd (.detach(), .data, no_grad, a rounding), or it jumps there",
        )


def check_float32(checks: Checks, problem: Problem, instance: Instance, batch: Batch) -> None:
    ids = instance.ids
    assert ids is not None
    with checks.trying("in float32, loss_and_gradient", DTYPE_REMEDY):
        single = problem.instances(ids, "train", torch.float32)
        loss, gradient = problem.loss_and_gradient(single.start, single, batch)
        with torch.no_grad():
            plain = problem.loss(single.start, single, batch)
    for name, tensor in {**tensors_of(single), "loss": plain, "loss_and_gradient": loss, "gradient": gradient}.items():
        checks.require(
            tensor.dtype == torch.float32 or not tensor.is_floating_point(),
            f"in float32, {name} is {tensor.dtype}",
            DTYPE_REMEDY,
        )
    exact = problem.loss_and_gradient(instance.start, instance, batch)[0]
    off = (loss.to(torch.float64) - exact).abs() / exact.abs().clamp_min(1e-30)
    row = int(off.nan_to_num(math.inf).argmax())
    checks.require(
        (off <= 1e-2).all(),
        f"in float32, the loss of row {row} is {float(loss[row]):.6g} at the start, and {float(exact[row]):.6g} in float64",
        "Avoid differences of large numbers, and constants beyond 1e38",
    )
    checks.passed.append("float32")


def check_minimum(checks: Checks, problem: Problem, instance: Instance, batch: Batch) -> None:
    with checks.trying("minimum", "Return (B, P), or None where it is not known"):
        minimum = problem.minimum(instance)
    if minimum is None:
        return
    checks.require(
        minimum.shape == instance.start.shape,
        f"minimum has shape {tuple(minimum.shape)}",
        f"Return {tuple(instance.start.shape)}",
    )
    loss, gradient = problem.loss_and_gradient(minimum, instance, batch)
    initial, slope = problem.loss_and_gradient(instance.start, instance, batch)
    row = int((loss - initial).nan_to_num(math.inf).argmax())
    checks.require(
        (loss <= initial).all(),
        f"loss at minimum is {float(loss[row]):.6g} in row {row}, and {float(initial[row]):.6g} at the start",
        "Correct `minimum`, or leave it out",
    )
    steep = gradient.abs().amax(dim=1) / slope.abs().amax(dim=1).clamp_min(1e-300)
    row = int(steep.nan_to_num(math.inf).argmax())
    checks.require(
        (gradient.abs().amax(dim=1) <= 1e-6 * slope.abs().amax(dim=1).clamp_min(1.0)).all(),
        f"the gradient at minimum is {float(steep[row]):.3g} times that at the start in row {row}",
        "Correct `minimum`, or leave it out: the gradient vanishes there",
    )
    checks.passed.append("minimum")
