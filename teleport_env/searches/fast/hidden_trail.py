"""Ascent within the general linear group on the hidden units of a network, from cached activations.

`HiddenUnits` keeps the outputs, and moves the activations of a hidden layer from ``a`` to ``g a``; so after a move every
layer's values are known without a forward pass. A gradient is ``G_l = d_l h_l'`` with ``h_l`` a layer's inputs on the ``n``
examples and ``d_l`` the derivative by what comes out of it. Hence

    |grad L|^2 = sum_l <d_l' d_l, h_l' h_l>

of matrices ``n x n``, the derivatives ``d_l`` come back through ``W_(l+1)' d_(l+1)`` for the layers below the highest, and
the ascent direction of a pair (`HiddenUnits.ascent_direction`) is ``T = P Q'`` with

    P = 2 [-e_l, (d_l M') / s' + e_l z._l s'' / s' + a_l d_(l+1)' d_(l+1)],   Q = [a._l, a_l],

of rank ``2 n`` (`low_rank`). The lowest matrix of all is needed at the end alone, and so are the gradients. At the end the
loss is evaluated: how well it was kept depends on the data, and `Found.loss_change` has to say it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from teleport_env.arrays import Array
from teleport_env.ledger import Counts
from teleport_env.searches.base import Candidate, Start
from teleport_env.searches.fast.low_rank import LowRank, moved_by, moved_flops, times_flops
from teleport_env.searches.trails import FastTrail, Place
from teleport_env.symmetries.hidden_units import CachedActivations, Factors
from teleport_env.symmetries.networks import plus_product, product


@dataclass
class Layered:
    """The values of a network on its examples, in arrays; lists have an entry per hidden layer, the lowest first.

    Attributes:
        outputs: ``z_l`` ``(R, k, n)``, as the activation's inverse gives them back.
        activated: ``a_l = s(z_l)``.
        slopes: ``s'(z_l)``.
        errors: ``e_l = dL/da_l``.
        deltas: ``d_l = e_l s'(z_l)``.
        inverses: ``h_l^+`` of the inputs, with the row of ones that a bias multiplies.
        upper: The weights above ``(R, p, k + bias)``.
        grams: ``h_l' h_l`` ``(R, n, n)`` of all layers.
        backward: ``d_l' d_l`` of all layers.
    """

    outputs: list[Array]
    activated: list[Array]
    slopes: list[Array]
    errors: list[Array]
    deltas: list[Array]
    inverses: list[Array]
    upper: list[Array]
    grams: list[Array]
    backward: list[Array]


_SMALL = 1 << 13  # activations of a layer up to which NumPy is quicker


class HiddenTrail(FastTrail[CachedActivations]):
    def __init__(self, start: Start, shortcut: CachedActivations) -> None:
        super().__init__(start, shortcut)
        self._network = shortcut.network
        self._layers = shortcut.network.layers
        self._direction_price = Counts(flops=direction_flops(shortcut))
        self._along_price = [Counts(flops=along_flops(shortcut, retract)) for retract in (False, True)]
        with torch.no_grad():
            self._inputs = self._network.inputs(start.instance, start.batch)
        self._matrices_up_to(max(self._layers.hidden) * self._inputs.shape[2] <= _SMALL)

    @staticmethod
    def price(shortcut: CachedActivations, steps: int, retract: bool, relative: bool) -> Counts:
        step = direction_flops(shortcut) + along_flops(shortcut, retract)
        return Counts(gradient=1.0, flops=begin_flops(shortcut) + steps * step + end_flops(shortcut))

    @property
    def as_announced(self) -> bool:
        return self._inputs.shape[2] == self._shortcut.examples

    def begin(self) -> Place:
        start, network, m = self._start, self._network, self._m
        with torch.no_grad():
            start.evaluator.charge(Counts(flops=begin_flops(self._shortcut)))
            value = self._inputs
            weights, gradients = self._layers.weights(start.params), self._layers.weights(start.gradient)
            restored, activated, slopes, inverses, grams = [], [], [], [], []
            for weight in weights[:-1]:
                h = network.augmented(value)
                inverses.append(m.view(Factors.of(h).inverse()))
                grams.append(m.view(product(h.mT, h)))
                output = network.apply(weight, value)
                value = network.activation(output)
                activated.append(m.view(value))
                slopes.append(m.view(network.activation.derivative(output)))
                # rather than z, as in `HiddenUnits.act`: a step's change is then free of the rounding of s^-1(s(z))
                restored.append(m.view(network.activation.inverse(value)))
            h = network.augmented(value)
            grams.append(m.view(product(h.mT, h)))
            # of the network's outputs: G = d h'
            delta = Factors.of(h).times_inverse_transposed(gradients[-1])
            self._delta, self._top = m.view(delta.contiguous()), m.view(product(delta.mT, delta))
            self._first = (weights[0], restored[0])
            upper = [m.view(weight) for weight in weights[1:]]
            errors, deltas, backward = self._errors(upper, slopes)
        layered = Layered(restored, activated, slopes, errors, deltas, inverses, upper, grams, backward)
        return self._place(layered, self._sum_of_products(grams, backward))

    def _errors(self, upper: list[Array], slopes: list[Array]) -> tuple[list[Array], list[Array], list[Array]]:
        """``e_l`` and ``d_l`` of the hidden layers, and ``d_l' d_l`` of all."""
        m, delta = self._m, self._delta
        errors, deltas, backward = [], [], [self._top]
        for weight, slope in zip(reversed(upper), reversed(slopes), strict=True):
            error = m.product(weight[:, :, : slope.shape[1]].swapaxes(1, 2), delta)
            delta = error * slope
            errors.append(error)
            deltas.append(delta)
            backward.append(m.product(delta.swapaxes(1, 2), delta))
        return errors[::-1], deltas[::-1], backward[::-1]

    def direction(self, place: Place, derivative: str, relative: bool) -> list[LowRank]:
        at: Layered = place.state
        m, activation, bias = self._m, self._network.activation, self._layers.bias
        self._start.evaluator.charge(self._direction_price)
        directions = []
        tangent: Array | None = None  # of the layer's inputs; the data rest
        for index, (activated, slope, error, delta) in enumerate(
            zip(at.activated, at.slopes, at.errors, at.deltas, strict=True)
        ):
            output_tangent = m.product(delta, at.grams[index])
            bracket = m.product(activated, at.backward[index + 1])
            if tangent is not None:
                weight = at.upper[index - 1][:, :, : tangent.shape[1]]
                output_tangent = m.plus_product(output_tangent, weight, tangent)
                # a bias multiplies a constant, whose tangent is 0
                inverse = at.inverses[index][:, :, : tangent.shape[1]] if bias else at.inverses[index]
                inner = m.product(inverse, tangent)
                bracket = bracket + m.product(delta, inner.swapaxes(1, 2)) / slope
            if activation.curved:
                second = m.view(activation.second_derivative(m.tensor(at.outputs[index])))
                bracket = bracket + error * output_tangent * second / slope
            tangent = slope * output_tangent
            directions.append(LowRank.of(m, m.concatenate([-error, bracket, tangent, activated], 2)))
        return directions

    def length(self, direction: list[LowRank]) -> Array:
        norm2 = sum(part.norm2 for part in direction)
        return self._number(2.0 * norm2**0.5)  # of 2 P Q'

    def along(self, place: Place, direction: list[LowRank], factor: Array, retract: bool) -> Place:
        at: Layered = place.state
        m, network, bias = self._m, self._network, self._layers.bias
        by = 2.0 * self._for_matrices(factor)
        self._start.evaluator.charge(self._along_price[retract])
        outputs, activated, slopes, upper = [], [], [], list(at.upper)
        inverses, grams = [at.inverses[0]], [at.grams[0]]
        at_inverse = inverses[0]  # of the inputs of the layer at hand
        for index, part in enumerate(direction):
            element = moved_by(part, by, retract)
            moved = element.times(at.activated[index])
            output, slope = map(m.view, network.activation.inverse_and_slope(m.tensor(moved)))
            if index > 0:
                change = output - at.outputs[index]
                upper[index - 1] = m.plus_product(upper[index - 1], change, at_inverse)
            width = moved.shape[1]
            above = element.from_right(upper[index][:, :, :width])
            upper[index] = m.concatenate([above, upper[index][:, :, width:]], 2) if bias else above
            h = m.view(network.augmented(m.tensor(moved))) if bias else moved
            grams.append(m.product(h.swapaxes(1, 2), h))
            if index + 1 < len(direction):
                at_inverse = m.view(Factors.of(m.tensor(h)).inverse())
                inverses.append(at_inverse)
            outputs.append(output)
            activated.append(moved)
            slopes.append(slope)
        errors, deltas, backward = self._errors(upper, slopes)
        layered = Layered(outputs, activated, slopes, errors, deltas, inverses, upper, grams, backward)
        return self._place(layered, self._sum_of_products(grams, backward))

    def end(self, place: Place) -> Candidate:
        at: Layered = place.state
        start, m = self._start, self._m
        start.evaluator.charge(Counts(flops=end_flops(self._shortcut)))
        with torch.no_grad():
            weight, before = self._first
            change = m.tensor(at.outputs[0] - before)
            lowest = plus_product(weight, change, m.tensor(at.inverses[0]))
            params = self._layers.flatten([lowest, *map(m.tensor, at.upper)])
        loss, gradient = start.evaluator.loss_and_gradient(params)
        before_loss = self._xp.tensor(place.loss)
        return Candidate(params, torch.where(torch.isfinite(before_loss), loss, before_loss), gradient)


# -- prices: floating-point operations for one run, term by term of the methods above ----------------------------------


def _pairs(shortcut: CachedActivations) -> list[tuple[int, int, int]]:
    """Of every hidden layer its width ``k``, inputs ``m`` and units above ``p``."""
    shapes = shortcut.network.layers.shapes
    return [(k, m, p) for (k, m), (p, _) in pairwise(shapes)]


_STEP = 0.8  # a step of a walk works in place on arrays: measured beside a move, which goes through calls of torch


def begin_flops(shortcut: CachedActivations) -> float:
    """The hidden layers' forward pass and back, factors and Gram matrices of all inputs."""
    n = shortcut.examples
    hidden = sum(2.0 * k * m * n + 2.0 * p * k * n + 6.0 * m * n * n + 2.0 * k * n * n for k, m, p in _pairs(shortcut))
    out, into = shortcut.network.layers.shapes[-1]
    return hidden + 6.0 * into * n * n + 2.0 * out * into * n + 3.0 * out * n * n


def direction_flops(shortcut: CachedActivations) -> float:
    """Of `HiddenTrail.direction` and `HiddenTrail.length`."""
    n, total = shortcut.examples, 0.0
    for index, (k, m, _) in enumerate(_pairs(shortcut)):
        total += 4.0 * k * n * n + 16.0 * k * n * n
        if index > 0:
            total += 2.0 * k * m * n + 2.0 * m * n * n + 1.0 * n**3 + 2.0 * k * n * n
    return _STEP * total


def along_flops(shortcut: CachedActivations, retract: bool) -> float:
    """Of `HiddenTrail.along`."""
    n, total = shortcut.examples, 0.0
    pairs = _pairs(shortcut)
    for index, (k, m, p) in enumerate(pairs):
        total += moved_flops(k, 2 * n, retract) + times_flops(k, 2 * n, n) + times_flops(k, 2 * n, p)
        total += 2.0 * k * n * n + 2.0 * p * k * n + 2.0 * k * n * n
        if index > 0:
            total += 2.0 * k * m * n + 1.0 * k * n * n
        if index + 1 < len(pairs):
            total += 4.0 * k * n * n
    return _STEP * total


def end_flops(shortcut: CachedActivations) -> float:
    """Of the lowest matrix; the loss is evaluated apart."""
    k, m, _ = _pairs(shortcut)[0]
    return 2.0 * k * m * shortcut.examples + 1.0 * k * shortcut.examples**2
