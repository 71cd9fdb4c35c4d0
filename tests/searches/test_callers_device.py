"""Searches, symmetries and checks put tensors where the runs are, and not on the caller's default device."""

from __future__ import annotations

from pathlib import Path

import torch
from search_cases import cases, start_of

import fresh
from teleport_env.checks import check_group, check_problem, check_search
from teleport_env.groups import BUILT_IN
from teleport_env.groups.laws import group_laws
from teleport_env.problems.linear_network import LinearNetwork

HERE = Path(__file__).parent


def sums() -> list[str]:
    """What every search finds on every symmetry, and what it says of its price."""
    wide = LinearNetwork(widths=(11, 16, 20, 9), samples=3)  # gradients span little of it
    found = []
    for case in cases():
        for problem in [case.problem, *([wide] if case.problem_name == "LinearNetwork" else [])]:
            symmetry = problem.symmetries[case.symmetry_name]
            moved = case.search.find(start_of(problem, symmetry, [0, 1]))
            numbers = [
                float(part.to(torch.float64).abs().sum()) for part in (moved.params, moved.gradient, moved.status)
            ]
            found.append(f"{case} {numbers} {case.search.price(problem, symmetry)}")
    return found


def under_meta() -> None:
    torch.set_default_device("meta")
    for line in sums():
        print(line)
    for group in BUILT_IN:
        broken = [law for law, ok, _ in group_laws(group) if not ok]
        assert not broken, (group, broken)
    check_group(BUILT_IN[3])
    for name in ("Booth", "MatrixFactorization", "MLPRegression"):
        check_problem(name, count=2)
    for name, search in (("Rosenbrock", "grid"), ("LinearNetwork", "whiten_inputs"), ("Digits", "mini_batch")):
        check_search(search, name, count=2)
    assert torch.get_default_device().type == "meta"


def test_a_default_device_changes_nothing() -> None:
    """In a process of its own, where nothing was cached under another default."""
    code = f"import sys; sys.path[:0] = {[str(HERE), str(HERE.parent)]}\n"
    run = fresh.run(["-c", code + "import test_callers_device; test_callers_device.under_meta()"])
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.splitlines() == sums()
