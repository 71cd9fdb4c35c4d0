"""Optuna over `play()`: which rule, how often it teleports and at which learning rate, tuned on the train split.

python examples/optuna_search.py
"""

from __future__ import annotations

import argparse

import optuna

from teleport_env.agents import Agent, Every, Never, Stall
from teleport_env.agents.play import draw_instances, play

PROBLEM = "Booth"


def proposed(trial: optuna.Trial) -> Agent:
    """The agent that a trial stands for."""
    menu = (
        ["normalized_ascent"] if trial.suggest_categorical("search", ["ascent", "random"]) == "ascent" else ["random"]
    )
    environment = {"searches": menu, "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True)}
    if trial.suggest_categorical("rule", ["every", "stall"]) == "every":
        return Every(k=trial.suggest_int("k", 1, 8), environment=environment)
    return Stall(patience=trial.suggest_int("patience", 1, 6), environment=environment)


def mean_return(agent: Agent, split: str, instances: int) -> float:
    ids = draw_instances(PROBLEM, split, instances, seed=0)
    return float(play(PROBLEM, agent, ids, split=split).gained.mean())


def main(words: list[str] | None = None) -> tuple[float, float]:
    """Returns on the test split, of descent without teleports and of the best agent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--instances", type=int, default=128)
    asked = parser.parse_args(words)
    if min(asked.trials, asked.instances) < 1:
        parser.error("--trials and --instances must be at least 1")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(lambda trial: mean_return(proposed(trial), "train", asked.instances), n_trials=asked.trials)
    before = mean_return(Never(), "test", asked.instances)
    after = mean_return(proposed(optuna.trial.FixedTrial(study.best_params)), "test", asked.instances)
    print(f"return {before:.2f} -> {after:.2f}: no teleports, and {study.best_params}")
    return before, after


if __name__ == "__main__":
    main()
