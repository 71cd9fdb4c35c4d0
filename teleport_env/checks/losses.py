"""Checks of a problem's loss and of its gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from teleport_env.checks.cases import generic_point, rows_of, streams_of, tensors_of
from teleport_env.checks.report import DTYPE_REMEDY, SAFE_REMEDY, Checks, identical, worst
from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import Problem

MIXING_REMEDY = "Compute row i from row i of everything alone: no sum, mean or maximum over the first axis"


def _evaluated(
    checks: Checks, what: str, problem: Problem, point: Tensor, instance: Instance, batch: Batch, where: str
) -> list[Tensor]:
    """What the method ``what`` gives at a point, after shape, precision, repetition, arguments and rows are checked."""
    before, count = point.clone(), len(instance)
    names = {"loss": ["loss"], "loss_and_gradient": ["loss_and_gradient, loss", "loss_and_gradient, gradient"]}[what]

    def evaluate(params: Tensor, instance: Instance, batch: Batch) -> list[Tensor]:
        with torch.set_grad_enabled(what != "loss"), checks.trying(f"{what} at {where}", f"See `Problem.{what}`"):
            got = getattr(problem, what)(params, instance, batch)
            return [got] if what == "loss" else list(got)

    got = evaluate(point, instance, batch)
    for name, value, shape in zip(names, got, ((count,), tuple(point.shape)), strict=False):
        checks.returned(name, value, shape, point.dtype)
    checks.require(torch.equal(point, before), f"{what} writes into the parameters", "Compute out of place")
    for name, value, again in zip(names, got, evaluate(point, instance, batch), strict=True):
        same = identical(value, again)
        checks.require(same, f"{name} differs between two calls", "Draw random numbers in `sample` only")
    for row in torch.arange(count, device="cpu").split(1):
        alone = evaluate(*rows_of(row, point, instance, batch))
        for name, value, single in zip(names, got, alone, strict=True):
            checks.same_row(name, single[0], value[row[0]], int(row), count, MIXING_REMEDY)
    return got


def check_loss(checks: Checks, problem: Problem, instance: Instance, batch: Batch) -> None:
    start = instance.start
    for name, point in {"the start": start, "a point nearby": generic_point(problem, instance, batch)}.items():
        (loss,) = _evaluated(checks, "loss", problem, point, instance, batch, name)
        checks.finite(f"loss at {name}", loss, "Draw starts from which a run can begin")
    checks.passed += ["loss: shape, precision, finite, repeatable", "loss: rows are independent"]
    spoiled = start.clone()
    spoiled[0] = torch.nan
    with torch.no_grad(), checks.trying("loss with one run of NaN", SAFE_REMEDY):
        broken, sound = problem.loss(spoiled, instance, batch), problem.loss(start, instance, batch)
    checks.require(identical(broken[1:], sound[1:]), "loss: a run of NaN changes other rows", MIXING_REMEDY)
    remedy = "Let NaN through (no nan_to_num): it tells that a run has diverged"
    checks.require(~torch.isfinite(broken[0]), f"loss of a run of NaN is {float(broken[0])}", remedy)
    checks.passed.append("loss: a run that diverged harms no other")


def check_gradient(checks: Checks, problem: Problem, instance: Instance, batch: Batch) -> None:
    nearby = generic_point(problem, instance, batch)
    for name, point in {"the start": instance.start, "a point nearby": nearby}.items():
        remedy = "`loss` must be made of differentiable torch operations, without .item(), .detach() or NumPy"
        with checks.trying(f"the gradient of loss at {name}", remedy):
            loss, automatic = Problem.loss_and_gradient(problem, point, instance, batch)
        size = automatic.abs().amax(dim=1).clamp_min(1e-300)
        _compare_with_differences(checks, problem, point, loss, automatic, instance, batch)
        value, gradient = _evaluated(checks, "loss_and_gradient", problem, point, instance, batch, name)
        wrong = (gradient - automatic).abs() / size[:, None]
        row, entry = divmod(int(wrong.nan_to_num(math.inf).argmax()), point.shape[1])
        checks.require(
            (wrong <= 1e-8).all(),
            f"loss_and_gradient gives {float(gradient[row, entry]):.6g} for parameter {entry} in row {row} at {name}, and "
            f"autograd of `loss` {float(automatic[row, entry]):.6g}",
            "Correct the formula, or leave `loss_and_gradient` out: autograd takes its place",
        )
        off, row = worst(value, loss)
        checks.require(
            (off <= 1e-10).all() or identical(value, loss),
            f"loss_and_gradient gives the loss {float(value[row]):.10g} in row {row}, and `loss` {float(loss[row]):.10g}",
            "Compute the same loss in both",
        )
    checks.passed.append("gradient: autograd agrees with central differences")
    if type(problem).loss_and_gradient is not Problem.loss_and_gradient:
        checks.passed.append("gradient: loss_and_gradient agrees with autograd of loss")
    checks.passed.append("gradient: rows are independent")


def check_kernels(checks: Checks, problem: Problem, instance: Instance, batch: Batch) -> None:
    """What the package's kernels compute against the torch code that they stand for; nothing where there are none."""
    found = {what: getattr(getattr(problem, what), "plain", None) for what in ("loss", "loss_and_gradient")}
    if not any(found.values()):
        return
    nearby = generic_point(problem, instance, batch)
    for name, point in {"the start": instance.start, "a point nearby": nearby}.items():
        for what, plain in found.items():
            if plain is None:
                continue
            with torch.no_grad():
                got, wanted = getattr(problem, what)(point, instance, batch), plain(problem, point, instance, batch)
            pairs = [(got, wanted)] if what == "loss" else list(zip(got, wanted, strict=True))
            for value, expected in pairs:
                value, expected = value.reshape(len(value), -1), expected.reshape(len(expected), -1)
                off = (value - expected).abs().amax(dim=1) / expected.abs().amax(dim=1).clamp_min(1e-300)
                row = int(off.nan_to_num(math.inf).argmax())
                checks.require(
                    (off <= 1e-11).all(),  # false for NaN
                    f"the kernel of {what} and the torch code that it stands for differ by {float(off[row]):.3g} of the "
                    f"largest entry in row {row} at {name}",
                    "Correct one of the two, or leave the decorator `compiled` away",
                )
    checks.passed.append("kernels: they agree with the torch code")


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
        if tensor.is_floating_point():
            checks.returned(f"in float32, {name}", tensor, tensor.shape, torch.float32, DTYPE_REMEDY)
    exact = problem.loss_and_gradient(instance.start, instance, batch)[0]
    off, row = worst(loss.to(torch.float64), exact, 1e-30)
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
    checks.returned("minimum", minimum, instance.start.shape, instance.start.dtype)
    loss, gradient = problem.loss_and_gradient(minimum, instance, batch)
    initial, slope = problem.loss_and_gradient(instance.start, instance, batch)
    steep = gradient.abs().amax(dim=1) / slope.abs().amax(dim=1).clamp_min(1.0)
    right = (loss <= initial) & (steep <= 1e-6)  # false for NaN
    row = int((~right).int().argmax())
    checks.require(
        right.all(),
        f"loss at minimum is {float(loss[row]):.6g} in row {row} ({float(initial[row]):.6g} at the start), and the gradient "
        f"at minimum is {float(steep[row]):.3g} times that at the start in row {row}",
        "Correct `minimum`, or leave it out: the gradient vanishes there",
    )
    checks.passed.append("minimum")
