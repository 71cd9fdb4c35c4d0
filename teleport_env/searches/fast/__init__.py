"""Walks and closed forms on less than all weights, one module for each kind of `Shortcut`.

`scalings` walks on one factor per hidden unit, `linear_chain` on gradients in the space that they span, `hidden_trail` on
cached activations with elements of low rank (`low_rank`). Each gives the same points as walks on the weights, up to
rounding, and names its own price. `teleport_env.searches.trail_choice` says which serves which shortcut.
"""
