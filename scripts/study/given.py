"""Policies that are given to a comparison as files, and names of files that follow from other names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from teleport_env.agents.policies.learned_moves import Policy, load_policy
from teleport_env.agents.policies.settings import check_name


def slug(name: str) -> str:
    """A name as part of a file's name: letters and digits, everything else a hyphen."""
    return "".join(c if c.isalnum() else "-" for c in name).strip("-")


def given_policies(paths: Sequence[Path], taken: Iterable[str]) -> dict[str, tuple[Policy, str]]:
    """Policies by their names in tables, each with its file's text.

    A policy goes by its own name, or by its file's where others have that name too.

    Args:
        paths: Their files.
        taken: Names of other rows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is refused, or two policies have one name, or names that make one name of a file.
    """
    loaded = [(path, load_policy(path)) for path in paths]
    own, others = [policy.name for _, policy in loaded], set(taken)
    found: dict[str, tuple[Policy, str]] = {}
    files = {slug(name).casefold(): name for name in others}
    for path, policy in loaded:
        name = path.stem if policy.name in others or own.count(policy.name) > 1 else policy.name
        check_name(name)
        other = files.setdefault(slug(name).casefold(), name)
        if other != name or name in found or name in others:
            raise ValueError(
                f"{path} would go by the name {name!r} and lie in the file of {other!r}; give it another name, or train it "
                "with --name"
            )
        found[name] = policy, path.read_text(encoding="utf-8")
    return found
