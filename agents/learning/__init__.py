"""Training of schedules: ``scripts/train.py`` is its command line, `teleport_env.agents.policies.learned` plays the result.

* `settings`: what a training is, as a dataclass; `recipes`: what is known to work on each problem;
* `plans`: fixed schedules, searched for on the train split: the base learning rate, the baseline and the teacher;
* `warm_start`: cloning a plan;
* `training`: the algorithms of stable-baselines3, in segments that can be resumed. The one module that imports them.
"""
