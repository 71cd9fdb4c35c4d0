"""What teleports cost of the budget left, as a policy reads it and is masked by it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from teleport_env.envs.features import INDEX


def price_shares(observation: np.ndarray, prices: Sequence[float]) -> np.ndarray:
    """Price of each search over the budget left, at most 1, ``(B, searches)`` float32, from observations ``(B, F)``.

    The feature says what the cheapest teleport costs; the others are multiples of it. 1 means that it cannot be paid, or
    that nothing would be left.

    Args:
        observation: Whose first columns are the features.
        prices: Of the searches, in units of the cheapest.
    """
    cheapest = observation[:, INDEX["price"], None].astype(np.float64)
    return np.minimum(cheapest * np.asarray(prices, dtype=np.float64), 1.0).astype(np.float32)


def relative(prices: Sequence[float]) -> tuple[float, ...]:
    """Prices in units of the cheapest.

    Raises:
        ValueError: One is 0, beside which the others have no finite price.
    """
    if prices and min(prices) <= 0:
        raise ValueError(
            "a search that costs nothing leaves nothing to measure the others' prices by: take it out of the menu, or "
            "train without masks"
        )
    return tuple(price / min(prices) for price in prices)
