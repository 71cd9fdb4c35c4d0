"""Training of schedules: ``scripts/train.py`` is its command line, `teleport_env.agents.policies.learned` plays the result.

* `settings`: what a training is, as a dataclass; `recipes`: what is known to work on each problem;
* `warm_start`: cloning a plan, a rule or another policy (`teleport_env.agents.tuning.own_menu` finds plans and rules);
* `training`: the algorithms of stable-baselines3, in segments that can be resumed. The one module that imports them.
"""
