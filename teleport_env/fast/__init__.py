"""Fast paths that not every problem has, fenced off from the engine that they speed up.

* `upcoming`: the next episodes of many runs with few parameters are drawn and evaluated together, because a reset of a few
  runs costs as many calls as a step of them all;
* `rosenbrock`: a search over the circle reads the gradient norms of Rosenbrock's function off the coordinates.

Nothing here changes a number, which the tests of fast paths hold.
"""
