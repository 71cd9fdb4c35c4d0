# %% [markdown]
# # 4. Your own module
#
# ![Loss of an autoencoder in training: out of balance, and after one teleport](../images/tutorials/module.png)
#
# This tutorial makes a `torch.nn.Module` a problem, finds its symmetries, and repairs a model whose layers are out of
# balance by one teleport. After it you can do the same with a model of yours, in an environment and in a training
# loop.

# %%
import copy

import gymnasium as gym
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn.functional import mse_loss

from teleport_env import ModuleProblem, find_symmetries
from teleport_env.agents import Teleporter, agent_from
from teleport_env.problems.data import digits

torch.set_num_threads(1)  # the tensors are small
torch.manual_seed(0)

# %% [markdown]
# ## Which symmetries does it have?
#
# The model compresses images of digits to eight numbers and back. `find_symmetries` traces it, proposes symmetries,
# and tries each one at random weights. What it refuses it says, with the reason.

# %%
images = digits().images.double().reshape(-1, 64)[:500]
images = images / images.max()
encoder = [nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)]
decoder = [nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64)]
model = nn.Sequential(*encoder, *decoder).double()
print(find_symmetries(model, images[:4]))

# %% [markdown]
# A hidden unit between two layers can be scaled. Multiply the weights into it by a positive number and divide the
# weights out of it by the same number. The ReLU lets the factor pass.
#
# ## A model out of balance
#
# We use this to make a model that computes the same function, with its first layer ten times as large.

# %%
unbalanced = copy.deepcopy(model)
with torch.no_grad():
    unbalanced[0].weight *= 10
    unbalanced[0].bias *= 10
    unbalanced[2].weight /= 10
print(f"largest change of an output: {(model(images) - unbalanced(images)).abs().max():.0e}")

# %% [markdown]
# Gradient descent sees the difference. `ModuleProblem` makes a problem of the model, and `start="keep"` starts every
# episode at its weights. The [menu](../glossary.md#menu) has one search, which balances the weights of neighbouring
# layers.


# %%
def course(model, teleport, learning_rate):
    """Gradient evaluations and loss in the course of an episode, which may begin with a teleport."""
    problem = ModuleProblem(model, mse_loss, (images, images), learning_rate=learning_rate, budget=80, start="keep")
    env = gym.make("Teleport/Module-v0", problem=problem, symmetry="scaling", searches=["balance_weights"])
    _, info = env.reset(seed=0)
    cost, loss, action, over = [info["cost"]], [info["loss"]], int(teleport), False
    while not over:
        *_, terminated, truncated, info = env.step(action)
        cost.append(info["cost"])
        loss.append(info["loss"])
        action, over = 0, terminated or truncated
    return cost, loss


ways = {"as PyTorch starts it": (model, False), "out of balance": (unbalanced, False), "teleported": (unbalanced, True)}
courses = {name: course(*way, learning_rate=4.0) for name, way in ways.items()}
for name, (cost, loss) in courses.items():
    print(f"{name:20} loss {loss[0]:.3f} -> {loss[-1]:.3g} in {cost[-1]:.1f} gradient evaluations")

# %% tags=["opening"]
figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
for name, (cost, loss) in courses.items():
    axes.semilogy(cost, loss, label=name)
axes.set(xlabel="gradient evaluations", ylabel="loss", ylim=(0.03, 3))
_ = axes.legend()

# %% [markdown]
# Out of balance the run diverges at this learning rate. One teleport, for a small part of one gradient evaluation,
# brings it back. Its later course is not that of the first model, because balanced weights are not the ones that
# PyTorch starts with.
#
# A teleport does not replace a good learning rate. At a quarter of it the model out of balance trains well without
# help:

# %%
for name, way in ways.items():
    print(f"{name:20} loss {course(*way, learning_rate=1.0)[1][-1]:.3f} at the learning rate 1")

# %% [markdown]
# ## In a training loop
#
# `Teleporter` brings teleports to a loop that you have, with two lines more. It moves weights, gradients and the
# optimizer's state.

# %%
optimizer = torch.optim.SGD(unbalanced.parameters(), lr=4.0)
first = agent_from("first", environment={"searches": ["balance_weights"], "symmetry": "scaling"})
teleporter = Teleporter(unbalanced, optimizer, schedule=first, steps=78)
for _ in range(78):
    optimizer.zero_grad()
    loss = mse_loss(unbalanced(images), images)
    loss.backward()
    teleporter.observe(loss)
    optimizer.step()  # the teleport happens here
print(f"loss {mse_loss(unbalanced(images), images):.3g}, the environment's {courses['teleported'][1][-1]:.3g}")
print([{name: row[name] for name in ("step", "search", "moved")} for row in teleporter.history])

# %% [markdown]
# [A module of your own](../own-module.md) says which layers are understood. [Your own training loop](../own-loop.md)
# says what the teleporter keeps exact and what it costs. On mini-batches teleports have gained little so far
# ([results](../results-digits.md)).
