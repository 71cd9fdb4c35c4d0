"""Speed: ratios to other environments, to bare loops and to an earlier state, each measured within one run.

`rows` says what a row is and how it is timed; `steps`, `waits` and `networks` list the rows; `earlier` runs an earlier state
of the project; `running` measures and saves on this `machine`.
"""
