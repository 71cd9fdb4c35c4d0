"""Is what I wrote what this project takes it for? Checks of groups, symmetries, problems, searches and agents.

Each check takes one object of yours, tries what the environments will rely on, and raises `CheckFailed` at the first thing
that does not hold: the message says what is wrong, in which method and row or parameter, and what to do. What is
allowed but worth knowing is in the ``notes`` of the `Report` that comes back otherwise::

    print(check_problem(MyProblem()))

The built-in problems, symmetries, searches and agents pass the same checks, without a note.
"""

from teleport_env.checks.actions import check_group, check_symmetry
from teleport_env.checks.agents import check_agent
from teleport_env.checks.problems import check_problem
from teleport_env.checks.report import CheckFailed, Report
from teleport_env.checks.searches import check_search

__all__ = [
    "CheckFailed",
    "Report",
    "check_agent",
    "check_group",
    "check_problem",
    "check_search",
    "check_symmetry",
]
