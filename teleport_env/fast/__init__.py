"""The fast path that one problem has, fenced off from the engine that it speeds up.

A gradient step of `Rosenbrock` is some twenty operations on two numbers per run, so that what it costs is the calls around
them. Two things are done for it, and for no other problem:

* `rosenbrock`: a step of plain descent is written into preallocated memory (`descend`), and a search over the circle reads
  the gradient norms off the coordinates (`norms_on_circle`);
* `upcoming`: the next episodes of many runs are drawn and evaluated together, because a reset of a few runs costs as many
  calls as a step of them all.

Nothing here changes a number: the results are the same bits without it, which the tests of fast paths hold. The rest of the
engine meets it at four places: `SteppingRuns.plain` and the line below it in ``step``, the grid search, and the vector
environment's next episodes. Whatever makes all problems as fast takes its place.
"""
