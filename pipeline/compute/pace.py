"""How fast a stage is now, and when it will be done: right also while workers come and go. Pure.

The mean over the whole stage would be wrong for hours after a cluster has grown, and the rate of the last seconds jumps
with every task that ends. What was done t seconds ago counts exp(-t / MEMORY_SECONDS); the beginning, when there is
less to remember, is divided out.
"""

import math

MEMORY_SECONDS = 120.0  # a few of the longest tasks
KEPT_SECONDS = 0.2  # what is reported so soon was finished by an earlier run, and says nothing of the speed


class Pace:
    """Units a second of a stage.

    Parameters
    ----------
    total
        Units of the stage.
    now
        Seconds of any clock that does not jump.
    """

    def __init__(self, total: int, now: float) -> None:
        self.total, self.done = total, 0
        self._started = self._last = now
        self._weighted = 0.0

    def advance(self, units: int, now: float) -> None:
        """So many more are done."""
        self.done += units
        if now - self._started > KEPT_SECONDS:
            self._weighted = self._faded(now) + units
            self._last = now

    def rate(self, now: float) -> float:
        """Units a second; 0 until some are done."""
        remembered = MEMORY_SECONDS * -math.expm1(-(now - self._started) / MEMORY_SECONDS)
        return self._faded(now) / remembered if remembered > 0 else 0.0

    def seconds_left(self, now: float) -> float | None:
        """Time to the end at this rate; None while nobody can tell."""
        rate, left = self.rate(now), self.total - self.done
        return 0.0 if left <= 0 else left / rate if rate > 0 else None

    def _faded(self, now: float) -> float:
        return self._weighted * math.exp((self._last - now) / MEMORY_SECONDS)
