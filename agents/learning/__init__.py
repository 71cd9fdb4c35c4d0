"""Training of schedules: ``scripts/train.py`` is its command line, `teleport_env.agents.policies.learned` plays the result.

* `settings` and `task`: the settings of a training, in four dataclasses; `recipes`: what trainings begin with, and which
  command asks for one;
* `warm_start`: cloning a plan, a rule or another policy (`teleport_env.agents.tuning.own_menu` finds plans and rules);
* `training`: a `course` of segments that can be resumed, by an `algorithm` of stable-baselines3.
"""
