"""A target's values dealt to the cells by a score that answers its driver: the shapes of `planted`. Pure.

The highest value goes to the cell of the highest score. The centre of a shape that has one is placed so that the
covariance of the values is that of values dealt at random.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pairscape.pipeline.datasets.columns import Values
from pairscape.pipeline.datasets.designs import Form

Index = NDArray[np.int64]
Real = NDArray[np.float64]

CENTRED = ("u-shaped", "simpson")
CENTRE_STEPS = 20  # halvings of [0, 1]


def plant(driver: Values, values: Values, form: Form, types: NDArray[np.bool_], rng: np.random.Generator) -> Values:
    """Deal the target's values to the cells so that they depend on the driver.

    Parameters
    ----------
    driver : (N,)
        The driver's value in each cell.
    values : (N,)
        The target's, ascending.
    types : (N,) bool
        Whether a cell is of type A.
    """
    noise = np.sqrt(1 - form.strength**2) * rng.standard_normal(driver.size)
    response = _response(driver, form, types)
    sign = -form.strength if form.turned else form.strength

    def dealt(centre: float) -> Values:
        return deal_by(sign * standardised(response(centre)) + noise, values)

    if form.shape not in CENTRED:
        return dealt(0.0)
    return dealt(_centre(driver, dealt, rng.permutation(values), form.turned))


def deal_by(score: Real, values: Values) -> Values:
    """Ascending values dealt to the cells, (N,), the highest to the highest score."""
    result = np.empty_like(values)
    result[np.argsort(score)] = values
    return result


def standardised(response: Real) -> Real:
    """The same with mean 0 and variance 1; a constant is 0."""
    response = response - response.mean()
    spread = response.std()
    return np.asarray(response / spread if spread > 0 else response)


def _response(driver: Values, form: Form, types: NDArray[np.bool_]) -> Callable[[float], Real]:
    """Response of a shape by its centre, (N,) each."""
    if form.shape in CENTRED:
        rank = (rankdata(driver) - 0.5) / driver.size
        if form.shape == "u-shaped":
            return lambda centre: np.abs(rank - centre)
        half, slope = rank - 0.5, np.where(types, 2, 0)
        return lambda centre: half * (slope - 2 * centre)
    middle = np.median(driver[driver > 0])
    response: NDArray[Any] = driver
    if form.shape == "saturating":
        response = driver / (driver + middle / 4)
    elif form.shape == "threshold":
        response = driver > middle
    elif form.shape == "exclusive":
        response = driver <= np.median(driver)
    return lambda _: response.astype(np.float64)


def _centre(driver: Values, dealt: Callable[[float], Values], independent: Values, turned: bool) -> float:
    """The c in [0, 1] at which the target's covariance with the driver is that of independent values."""
    deviation = driver.astype(np.float64) - driver.mean()
    goal, low, high = deviation @ independent, 0.0, 1.0
    for _ in range(CENTRE_STEPS):
        centre = (low + high) / 2
        low, high = (centre, high) if (deviation @ dealt(centre) > goal) != turned else (low, centre)
    return (low + high) / 2
