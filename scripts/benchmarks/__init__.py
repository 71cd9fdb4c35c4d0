"""Speed: ratios to other environments and to bare loops, each measured within one run.

`rows` says what a row is and how it is timed, `engine` and `networks` list the rows, `running` measures and saves them.
"""
