# %% [markdown]
# # 2. Rules, and what they see
#
# ![What a rule sees in an episode, and when it teleports](../images/tutorials/rules.png)
#
# This tutorial plays [rules](../glossary.md#rule), which decide from a run's own numbers when to teleport. After it
# you can see why a rule did what it did, compare rules, and write one.

# %%
from dataclasses import dataclass

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np

from teleport_env.agents import Rule, agent_for, feature
from teleport_env.agents.play import draw_instances, play, play_all
from teleport_env.envs.features import INDEX

PROBLEM = "Rosenbrock"

# %% [markdown]
# ## What a rule sees
#
# An observation is a row of [bounded numbers without a unit](../features.md). `feature` picks one by its name. Scales
# do not matter: a rule sees the same if the loss is multiplied by a constant and the learning rate divided by it.

# %%
env = gym.make(f"Teleport/{PROBLEM}-v0", split="validation")
observation, info = env.reset(seed=1)
for name in ("rate_decrease", "loss_drop", "budget_left", "price"):
    print(f"{name:13} {observation[INDEX[name]]:.3f}")

# %% [markdown]
# `rate_decrease` matters most. It is the share of the loss that the next step promises, `lr |g|^2 / L`, as a
# logarithm. The rule `relative_decrease` teleports where that share is below a threshold. `agent_for` builds a rule
# as it plays one problem, with one search of the problem's [menu](../glossary.md#menu).

# %%
rule = agent_for(PROBLEM, "relative_decrease:threshold=0.3")
instances = draw_instances(PROBLEM, "validation", 128, seed=0)
played = play(PROBLEM, rule, instances, split="validation", observations=True)
print(f"{rule.name}: {played.gained.mean():.1f} orders of magnitude gained, mean over {len(instances)} instances")

# %% [markdown]
# ## Look at one episode
#
# Each dot is a decision. The rule teleports where the promise falls below the red line. A teleport raises the promise
# again, and the next steps are worth more. After a teleport the rule waits for five steps.

# %% tags=["opening"]
row = int(np.argsort(played.gained)[len(instances) // 2])  # an instance in the middle of the field
actions = played.actions[:, row]
decisions = int((actions >= 0).sum())
teleports = np.flatnonzero(actions[:decisions] > 0)
promise = 10 ** (2 * feature(played.observations[:decisions, row], "rate_decrease"))
cost = played.cost[: decisions + 1, row]

figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 4.4), sharex=True, layout="constrained")
top.semilogy(cost, played.loss[: decisions + 1, row], label="loss")
bottom.semilogy(cost[:-1], promise, ".-", color="tab:gray", label="share of the loss that the next step promises")
bottom.axhline(rule.threshold, color="tab:red", label="threshold")
for axes, values in ((top, played.loss[:decisions, row]), (bottom, promise)):
    axes.plot(cost[teleports], values[teleports], "r^", markersize=8, linestyle="none", label="teleport")
    axes.legend(fontsize=8)
_ = bottom.set(xlabel="gradient evaluations")

# %% [markdown]
# ## Compare rules
#
# `play_all` plays every agent on the same instances. All of them have the same budget of gradient evaluations.

# %%
names = ("never", "every:k=5", "stall", "accept_if_better", "relative_decrease:threshold=0.3", "edge_of_stability")
agents = [agent_for(PROBLEM, name) for name in names]
for name, result in zip(names, play_all(PROBLEM, agents, instances, split="validation"), strict=True):
    teleported = np.mean([one["teleports"] for one in result.rows])
    print(f"{name:32} {result.gained.mean():5.2f} orders, {teleported:4.1f} teleports")

# %% [markdown]
# `never` is plain gradient descent. Most of the gain comes from teleporting at all. `edge_of_stability` also moves
# the learning rate. None of them is tuned here; `make compare` tunes each one before it is played.
#
# ## Write one
#
# A rule says when there is reason to teleport. Its base class adds the wait between teleports and the guard of the
# budget. This one teleports where the last step has lowered the loss by less than a fifth, and waits for two steps.


# %%
@dataclass(frozen=True, kw_only=True)
class Impatient(Rule):
    """Teleport where the last step has achieved little.

    Attributes:
        threshold: Orders of magnitude that a step must lower the loss by; 0.1 is a fifth.
    """

    name: str = "impatient"
    cooldown: int = 2
    threshold: float = 0.1

    def signal(self, observation, memory):
        return feature(observation, "loss_drop") < self.threshold


mine = Impatient(environment=rule.environment)
for split in ("validation", "test"):
    gained = play(PROBLEM, mine, draw_instances(PROBLEM, split, 128, seed=0), split=split).gained
    print(f"{mine.name}, {split} instances: {gained.mean():.2f} orders")

# %% [markdown]
# The threshold and the wait were chosen by trying ten pairs on the validation instances. So the figure of the test
# instances counts. `register_agent("impatient", Impatient)` gives the rule a name for command lines. [Your own
# comparison](../own-comparison.md) enters it in a table with intervals.
#
# **Next:** [a policy that learns when to teleport](training.md).
