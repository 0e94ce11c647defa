"""Figures of several runs of one recipe in one: mean, range and standard deviation of each. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Figure = Callable[[list[float]], Any]


def mean_of(runs: Sequence[Any]) -> Any:
    """Mean of each figure of nested figures; None where no run has it, and of the others where some have not.

    Parameters
    ----------
    runs
        The same figures of each run: numbers, None, or mappings of such. Whatever else they hold is left out.
    """
    return _each(runs, lambda numbers: float(np.mean(numbers)))


def spread_of(runs: Sequence[Any]) -> Any:
    """Of each figure {min, max, standard_deviation}, as `mean_of`; the deviation (n − 1) is None for a single run."""
    return _each(runs, _spread)


def _spread(numbers: list[float]) -> dict[str, float | None]:
    deviation = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    return {"min": min(numbers), "max": max(numbers), "standard_deviation": deviation}


def _each(runs: Sequence[Any], figure: Figure) -> Any:
    tables = [run for run in runs if isinstance(run, Mapping)]
    if tables:
        keys = dict.fromkeys(key for table in tables for key, value in table.items() if _is_figure(value))
        return {key: _each([table.get(key) for table in tables], figure) for key in keys}
    numbers = [float(value) for value in runs if value is not None and math.isfinite(value)]
    return figure(numbers) if numbers else None


def _is_figure(value: Any) -> bool:
    if value is None or isinstance(value, Mapping):
        return True
    return isinstance(value, int | float) and not isinstance(value, bool)
