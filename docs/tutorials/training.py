# %% [markdown]
# # 3. Train a schedule, and look at its decisions
#
# ![What decides: how often the trained policy takes each action, by what it sees](../images/tutorials/training.png)
#
# This tutorial trains a policy that decides when to teleport and with which learning rate to go on. Training takes
# less than two minutes on one core. After it you can train one for a problem of yours, play it, and see what it has
# learned.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

from teleport_env.agents import agent_for
from teleport_env.agents.comparison.decisions import course_picture, frequency_picture, watch
from teleport_env.agents.learning.recipes import recipe
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.training import train
from teleport_env.agents.play import draw_instances, play_all
from teleport_env.agents.policies.learned import LearnedSchedule

PROBLEM = "Rosenbrock"
DECISIONS = 300_000  # of all runs together: 1024 runs are trained on side by side
PLANS = 64  # fixed schedules that are tried before

# %% [markdown]
# ## Train
#
# Every problem has a recipe. It tries some fixed schedules first, for a learning rate to begin with. Then PPO of
# stable-baselines3 improves a small network. The reward is the [orders of magnitude
# gained](../glossary.md#orders-of-magnitude-gained), and every episode has its own instance. `python scripts/train.py
# --problem Rosenbrock` runs the whole recipe.

# %%
folder = Path(tempfile.mkdtemp())
settings = {**recipe(PROBLEM), "decisions": DECISIONS, "plans": PLANS, "rules": 0, "out": folder}
trained = train(Training.of(**settings))

# %% [markdown]
# ## Play it
#
# The file `policy.json` holds the network, the menu and the rates. Reading it runs no code. The policy plays test
# instances that no choice was made on, beside plain descent and two rules that are not tuned.

# %%
policy = LearnedSchedule.load(folder / "policy.json")
agents = [*(agent_for(PROBLEM, name) for name in ("never", "relative_decrease", "edge_of_stability")), policy]
instances = draw_instances(PROBLEM, "test", 256, seed=0)
for agent, played in zip(agents, play_all(PROBLEM, agents, instances, split="test"), strict=True):
    diverged = sum(row["diverged"] for row in played.rows)
    print(
        f"{agent.name:18} {played.gained.mean():5.2f} orders of magnitude, {diverged} of {len(instances)} runs diverged"
    )

# %% [markdown]
# ## What decides?
#
# Each bar holds about equally many decisions, sorted by one feature. Colours show how often each action was taken.
# The six features are those that tell most about the action. Blue steps raise the learning rate, violet ones lower
# it.

# %% tags=["opening"]
decisions = watch(PROBLEM, policy, instances, split="test")
frequency_picture(decisions)

# %% [markdown]
# ## Three episodes
#
# Each marker is a decision, and triangles are teleports. The policy handles the learning rate and the teleports
# together: it raises the rate where the ground is flat and lowers it where steps overshoot.

# %%
course_picture(decisions, [0, 1, 2])

# %% [markdown]
# The tolerance of this problem allows about 12 orders, so that little is left to gain here. [Training](../learning.md) says
# how the full recipes go on, and [the results](../results-overview.md) say what they gain elsewhere. A policy plays best
# with the budget and on the problem that it was trained for.
#
# **Next:** [your own module](module.md).
