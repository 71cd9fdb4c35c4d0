# %% [markdown]
# # 1. A teleport by hand
#
# ![Level set and loss on Booth's function, with and without a teleport](../images/tutorials/by-hand.png)
#
# This tutorial moves a point along its level set and shows what that does to gradient descent. After it you can
# teleport by hand, look before you move, and say why the steepest point is not always the best one.

# %%
import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np

# %% [markdown]
# ## One problem and its symmetry
#
# Booth's function is a quadratic bowl in two variables. Its level sets are ellipses. A rotation in suitable
# coordinates moves a point along its ellipse and keeps the loss: this is the [symmetry](../glossary.md#symmetry).
#
# In the action mode `"hybrid"` an action has two parts. `teleport` says whether to teleport or to step. `group` is
# the angle of the rotation, as a share of half a turn.

# %%
env = gym.make("teleport_env:Teleport/Booth-v0", split="paper", action_mode="hybrid")
STEP = {"teleport": 0, "group": np.zeros(1, dtype=np.float32)}


def teleport(share):
    return {"teleport": 1, "group": np.array([share], dtype=np.float32)}


_, info = env.reset(seed=0)
print(f"at the start: loss {info['loss']:.1f}, gradient norm {info['grad_norm']:.1f}, spent {info['cost']:.0f}")
*_, info = env.step(teleport(0.25))
print(
    f"an eighth of a turn on: loss {info['loss']:.1f}, gradient norm {info['grad_norm']:.1f}, spent {info['cost']:.0f}"
)

# %% [markdown]
# The loss is the same, and the gradient norm is larger. The start and the move cost one gradient evaluation each.
#
# ## Look before you move
#
# A snapshot holds the whole state of an episode. Going back to it undoes a move. So you can visit the whole level
# set.

# %%
SHARES = np.linspace(-1, 1, 181)


def level_set(env):
    """Parameters and gradient norm at every point that a rotation leads to; the environment stays where it is."""
    here, found = env.unwrapped.snapshot(), []
    for share in SHARES:
        *_, info = env.step(teleport(share))
        found.append([*env.unwrapped.params, info["grad_norm"]])
        env.unwrapped.restore(here)
    return np.transpose(found)


env.reset(seed=0)
start = env.unwrapped.snapshot()
x, y, steepness = level_set(env)
steepest = SHARES[steepness.argmax()]
print(f"the steepest point is {steepest:.2f} of half a turn away: gradient norm {steepness.max():.1f}")

# %% [markdown]
# ## What is the move worth?
#
# Two episodes have the same budget. One takes gradient steps alone. The other one teleports to the steepest point
# first.


# %%
def run(env, start, first):
    """Gradient evaluations and loss in the course of an episode: a first action, then gradient steps to the end."""
    env.unwrapped.restore(start)
    cost, loss, action, over = [], [], first, False
    while not over:
        *_, terminated, truncated, info = env.step(action)
        cost.append(info["cost"])
        loss.append(info["loss"])
        action, over = STEP, terminated or truncated
    return cost, loss


plain, moved = run(env, start, STEP), run(env, start, teleport(steepest))
print(f"final loss without a teleport {plain[1][-1]:.0e}, with one {moved[1][-1]:.0e}")

# %% tags=["opening"]
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
dots = left.scatter(x, y, c=steepness, s=10)
figure.colorbar(dots, label="gradient norm")
left.plot(x[90], y[90], "k*", markersize=12, label="start")
left.plot(x[steepness.argmax()], y[steepness.argmax()], "r^", markersize=9, label="steepest")
left.plot(1, 3, "k+", markersize=10, label="minimum")
left.set(title="The level set of the start", xlabel="x", ylabel="y")
left.legend()
right.semilogy(*plain, label="gradient steps")
right.semilogy(*moved, color="tab:red", label="one teleport first")
right.set(title="Loss", xlabel="gradient evaluations")
_ = right.legend()

# %% [markdown]
# One move buys three [orders of magnitude](../glossary.md#orders-of-magnitude-gained). On a quadratic the gradient at
# the steepest point is the direction of Newton's method, and stays so (Proposition 5.5 of the
# [paper](https://arxiv.org/abs/2205.10637)). Our 181 points miss it by a little. What is left of the old direction then
# decays at the old pace. The search `closed_form` computes the point instead of looking for it.
#
# ## When the steepest point is a bad choice
#
# Rosenbrock's function has a curved valley between steep walls. The same recipe fails there.

# %%
env = gym.make("teleport_env:Teleport/Rosenbrock-v0", split="paper", action_mode="hybrid", budget=101)
env.reset(seed=0)
start = env.unwrapped.snapshot()
_, _, steepness = level_set(env)
steepest = SHARES[steepness.argmax()]
_, plain = run(env, start, STEP)
_, moved = run(env, start, teleport(steepest))
print(f"gradient norm {steepness[90]:.0f} at the start, {steepness.max():.0f} at the steepest point")
print(
    f"final loss without a teleport {plain[-1]:.2g}, from the steepest point {moved[-1]:.2g} after {len(moved) - 1} step"
)

# %% [markdown]
# The first step from there is far too long for the learning rate, and the run diverges. It is better to judge a point
# by what the next steps make of it. We can afford that here, because looking is free by snapshots.

# %%
finals = np.array([run(env, start, teleport(share))[1][-1] for share in SHARES])
best = finals.argmin()
print(f"best final loss {finals[best]:.0e}, at {SHARES[best]:.2f} of half a turn, gradient norm {steepness[best]:.0f}")
print(f"{(finals < plain[-1]).sum()} of {len(SHARES)} points are better than no teleport")

# %%
figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
axes.semilogy(SHARES, steepness, color="tab:gray", label="gradient norm")
axes.semilogy(SHARES, finals, ".", label="final loss after 100 evaluations")
axes.axhline(plain[-1], color="black", linestyle=":", label="final loss without a teleport")
axes.set(title="Rosenbrock: few points of the level set help", xlabel="share of half a turn")
_ = axes.legend()

# %% [markdown]
# Few points help, and they help a lot. Finding them is the work of a *search*. An environment has a
# [menu](../glossary.md#menu) of searches, and every one is an action with a name and a price:

# %%
env = gym.make("teleport_env:Teleport/Rosenbrock-v0", split="train")
for number, name in enumerate(env.unwrapped.action_names):
    _, before = env.reset(seed=0)
    *_, after = env.step(number)
    print(f"{number} {name}: {after['cost'] - before['cost']:.2f} gradient evaluations")

# %% [markdown]
# The search `virtual step` looks one step ahead instead of at the gradient norm.
#
# **Next:** [rules that decide when to teleport](rules.md). In the [explorer](../explorer.md) you do all of this with
# a mouse.
