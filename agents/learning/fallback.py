"""Worth of a trained policy beside itself without teleports, its menu's best plan, the rule it began from and plain descent.

A policy is chosen on validation instances, which favours it there. So it is judged on other instances of the same split, at
both ends of the tolerances that it met. Where it gains less than the best of its rivals, in the mean of both, its file keeps
that rival as the fallback, to be played instead.

The rules that the package keeps tuned are further rivals of a policy for several problems. Of it and all its rivals that one
plays which loses least to the best of these rules at the worse end: much more at one does not pay for less at the other.
A policy for a single problem has no such rivals: studies compare it with the best of them.

A policy keeps its teleports only where they pay: where it gains as much with them masked, the masked policy is the fallback.
In the group mode that is plain descent, which is a rival anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from teleport_env.agents.base import Agent
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.warm_start import rule_content
from teleport_env.agents.naming import kept_rules
from teleport_env.agents.play import draw_instances, play_many
from teleport_env.agents.policies.learned import LearnedSchedule, Masked
from teleport_env.agents.policies.learned_moves import MovePlan, Policy
from teleport_env.agents.tuning.own_menu import plan_from, rule_played
from teleport_env.agents.tuning.plans import Plan
from teleport_env.agents.versions import versions

JUDGE_SEED = 20223
"""Seed of the choice of the validation instances that a policy is judged on; they chose nothing before."""

PLAN, RULE, PLAIN = "the best plan of its own menu", "the rule that it began from", "plain descent"
MASKED = "the policy with its teleports masked"
SHIPPED_RULE = "the best rule as shipped"


def gained_over_tolerances(
    training: Training, problem: str, agents: Sequence[Agent], ids: np.ndarray, seed: int
) -> np.ndarray:
    """What agents gain on validation instances ``(ends, agents, instances)``, in the unit of a training on one problem.

    That is at both ends of the training's tolerances, or at the one that it has: a policy without a finish line is not
    chosen at one.
    """
    task, usual = training.task, training.settings().tolerance
    shared: dict[str, Any] = {"split": "validation", "budget": task.budget, "reward": task.reward, "seed": seed}
    return np.array(
        [
            play_many(problem, agents, ids, settings={"tolerance": multiple * usual}, **shared)
            for multiple in dict.fromkeys(task.tolerance_multiples)
        ]
    )


def judge(
    policy: Policy, instances: int, tolerance_multiples: tuple[float, float] | None = None
) -> tuple[Policy, dict[str, str]]:
    """A policy that was trained before, judged anew: its fallbacks are those that `judged` finds now.

    Args:
        policy: The policy, as its file has it.
        instances: Number of validation instances per problem; more of them than the end of a training plays make a close
            comparison surer.
        tolerance_multiples: Multiples of the tolerance that it is judged at, by the mean; None: those of the training.

    Raises:
        ValueError: The file does not say how the policy was trained.
    """
    provenance = {name: found for name, found in policy.provenance.items() if name not in ("fallback", "fallbacks")}
    if "training" not in provenance:
        raise ValueError(f"the file of the policy {policy.name!r} does not say how it was trained")
    training, plans = Training.of(**provenance["training"]), provenance.get("plans", {})
    if tolerance_multiples is not None:
        training = replace(training, task=replace(training.task, tolerance_multiples=tolerance_multiples))
    if plan := provenance.get("plan"):
        plans = {training.only: plan}
    trainings = {
        problem: (training.alone(problem), policy.for_problem(problem).environment["learning_rate"])
        for problem in policy.problems
    }
    multiples = list(training.task.tolerance_multiples)
    provenance["judged"] = {"instances": instances, "tolerance_multiples": multiples, "versions": versions()}
    return judged(replace(policy, provenance=provenance), trainings, plans, instances)


def judged(
    policy: Policy,
    trainings: Mapping[str, tuple[Training, float]],
    plans: Mapping[str, Mapping[str, Any]],
    instances: int | None = None,
) -> tuple[Policy, dict[str, str]]:
    """The policy with a fallback for each problem on which it is worse than a rival, and a sentence for each of these.

    Args:
        policy: The best of the training.
        trainings: The training on each problem alone, and its base learning rate.
        plans: Plans that the search for plans found, by problem, where it searched.
        instances: Number of validation instances; None: as many as the training chose the policy on.
    """
    fallbacks: dict[str, dict[str, Any]] = {}
    said = {}
    for problem, (training, rate) in trainings.items():
        environment = training.policy_environment(rate)
        alone = policy.for_problem(problem)
        rivals = _rivals(training, rate, environment, plans.get(problem))
        if len(trainings) > 1:
            rivals += _shipped(problem, training.task.budget)
        if isinstance(alone, LearnedSchedule) and alone.environment.get("searches"):
            # first: of rivals that are level the first plays
            rivals.insert(0, (MASKED, Masked(policy=alone), {"masked": True}))
        agents = [alone, *(agent for _, agent, _ in rivals)]
        count = training.schedule.validation_instances if instances is None else instances
        ids = draw_instances(problem, "validation", count, JUDGE_SEED)
        by_end = gained_over_tolerances(training, problem, agents, ids, JUDGE_SEED)
        gained, ends = by_end.mean(axis=0), by_end.mean(axis=2)
        rules = [1 + place for place, (of, _, _) in enumerate(rivals) if of == SHIPPED_RULE]
        # less is better: what is lost to the best of the rules as shipped at the worse end, or minus the mean over both ends
        lost, at = -gained.mean(axis=1), [*range(len(ends))]
        if rules:
            by_rules = ends[:, rules].max(axis=1, keepdims=True) - ends
            lost, at = by_rules.max(axis=0), [int(by_rules[:, 0].argmax())]
        best = int(lost[1:].argmin())
        # a policy that is level with itself without teleports plays without, unless it never teleported
        idle = rivals[best][0] != MASKED or (gained[0] == gained[1 + best]).all()
        if lost[0] < lost[1 + best] or (lost[0] == lost[1 + best] and idle):
            continue
        own, rival = ends[at].mean(axis=0)[[0, 1 + best]].tolist()
        what, _, content = rivals[best]
        fallbacks[problem] = {**content, "what": what, "gained": rival, "policy_gained": own}
        digits = 2 if abs(rival - own) >= 0.01 else 5
        said[problem] = (
            f"on {problem} the policy gains {own:.{digits}f} {training.task.unit}, and {what} {rival:.{digits}f}, "
            "both on other validation instances than those that chose the policy"
        )
    if not fallbacks:
        return policy, {}
    entry = {"fallbacks": fallbacks} if len(trainings) > 1 else {"fallback": fallbacks[problem]}
    return replace(policy, provenance={**policy.provenance, **entry}), said


def _rivals(
    training: Training, rate: float, environment: Mapping[str, Any], found: Mapping[str, Any] | None
) -> list[tuple[str, Agent, dict[str, Any]]]:
    """The best plan, if one was searched for, the rule, if it began from one, and plain descent at the policy's base rate
    and at the problem's; each with its agent, and with what a policy's file says of it."""
    plans = [(PLAN, plan_from(found["plan"], environment))] if found else []
    settings = training.settings()
    usual = settings.problem.defaults("validation").learning_rate
    for one in dict.fromkeys((rate, usual)):
        plain = Plan(one) if settings.action_mode == "schedule" else MovePlan(one, (0.0,) * settings.group_dim)
        plans.append((PLAIN, plain))
    rivals: list[tuple[str, Agent, dict[str, Any]]] = [
        (what, plan.agent(environment), {"plan": _content(plan)}) for what, plan in plans
    ]
    if content := rule_content(training):
        rivals.append((RULE, rule_played(content), {"rule": content}))
    return rivals


def _shipped(problem: str, budget: float | None) -> list[tuple[str, Agent, dict[str, Any]]]:
    """The rules as shipped, in the form of `_rivals`, where their settings hold for the budget; the best on the train split
    first. On an easy problem several reach the tolerance there and are equal, so that other instances have to choose."""
    rules = []
    for name, settings in kept_rules(problem, budget).items():
        own = dict(settings)
        content = {"rule": name, "environment": own.pop("environment"), "settings": own}
        rules.append((SHIPPED_RULE, rule_played(content), {"rule": content}))
    return rules


def _content(plan: Plan | MovePlan) -> dict[str, Any]:
    return {**asdict(plan), **({"xi": list(plan.xi)} if isinstance(plan, MovePlan) else {})}
