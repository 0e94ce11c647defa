"""False discovery rates from the scores of decoys: of the pairs called at a score, the share expected by chance. Pure.

With D decoys, C candidates and n(s) candidates that score at least s,

    q(s) = min over t ≤ s of  C · (1 + decoys that score at least t) / (D + 1) / n(t),   and 1 at most.

All candidates are taken for chance, which errs on the safe side; the 1 stands for the pair itself, as in any test by
permutation, and no q falls below C / (D + 1) / n. Between two decoys only n changes, so q is one number there, that of
the lowest candidate: D + 1 numbers are all that is kept, however many candidates there are.

Candidates may be divided, each division with its decoys (`model.prediction.bands`): then q is one of its division.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 2**20  # candidates looked up at a time

Scores = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Discovery:
    """q-values as a function of the score.

    Attributes
    ----------
    decoys : (S,) float32
        Scores of the decoys that have one, ascending.
    called : (S + 1,) int64
        Candidates that fewer than k + 1 decoys reach or exceed, k from 0 to S.
    q : (S + 1,) float64
        The q-value of a candidate that k decoys reach or exceed.
    """

    decoys: NDArray[np.float32]
    called: NDArray[np.int64]
    q: NDArray[np.float64]

    @classmethod
    def estimate(cls, parts: Iterable[Scores], decoys: Scores) -> "Discovery":
        """From the scores of all candidates, part by part, and of decoys (D,).

        NaN where the screen kept a pair from the network: below every score.
        """
        counting = _Counting(decoys)
        for part in parts:
            counting.add(part)
        return counting.discovery()

    def __call__(self, scores: Scores) -> NDArray[np.float32]:
        """q-values, (P,); NaN where a score is."""
        found = np.full(scores.size, np.nan, np.float32)
        at = 0
        for some in _slices(scores):
            scored = np.flatnonzero(~np.isnan(some))
            found[at + scored] = self.q[_exceeding(self.decoys, some[scored])]
            at += some.size
        return found

    def calls(self, level: float) -> int:
        """Candidates with a q-value of at most `level`."""
        reached = np.flatnonzero(self.q <= level)
        return int(self.called[reached[-1]]) if reached.size else 0


@dataclass(eq=False)
class _Counting:
    """Candidates between the decoys, counted part by part."""

    decoys: Scores
    candidates: int = 0
    known: NDArray[np.float32] = field(init=False)
    within: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.known = np.sort(self.decoys[~np.isnan(self.decoys)].astype(np.float32))
        self.within = np.zeros(self.known.size + 1, np.int64)

    def add(self, part: Scores) -> None:
        """Count the candidates of a part."""
        self.candidates += part.size
        for some in _slices(part):
            self.within += np.bincount(_exceeding(self.known, some[~np.isnan(some)]), minlength=self.known.size + 1)

    def discovery(self) -> Discovery:
        """What comes of those that were counted."""
        called = np.cumsum(self.within)
        chance = self.candidates * np.arange(1, self.known.size + 2) / (self.decoys.size + 1)
        raw = np.divide(chance, called, out=np.full(chance.size, np.inf), where=called > 0)
        return Discovery(self.known, called, np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1))


@dataclass(frozen=True, eq=False)
class BandedDiscovery:
    """q-values as a function of the score and of the band that a candidate is in.

    Attributes
    ----------
    band : (P,) uint8
        Of each candidate.
    of_band
        q-values in each band.
    """

    band: NDArray[np.uint8]
    of_band: tuple[Discovery, ...]

    @classmethod
    def estimate(
        cls, parts: Iterable[Scores], band: NDArray[np.uint8], decoys: Scores, band_of_decoy: NDArray[np.uint8]
    ) -> "BandedDiscovery":
        """From the scores of all candidates, part by part in their order, and of decoys (D,), which have bands too."""
        number = int(band_of_decoy.max(initial=0)) + 1
        counting, at = [_Counting(decoys[band_of_decoy == one]) for one in range(number)], 0
        for part in parts:
            own = band[at : at + part.size]
            for one, count in enumerate(counting):
                count.add(part[own == one])
            at += part.size
        return cls(band, tuple(count.discovery() for count in counting))

    def __call__(self, rows: slice, scores: Scores) -> NDArray[np.float32]:
        """q-values of some candidates, (P,), whose scores are given; NaN where a score is."""
        own, found = self.band[rows], np.full(scores.size, np.nan, np.float32)
        for one, discovery in enumerate(self.of_band):
            found[own == one] = discovery(scores[own == one])
        return found

    @property
    def smallest(self) -> float:
        """The smallest q-value that any candidate has."""
        return min(float(discovery.q[0]) for discovery in self.of_band)

    def calls(self, level: float) -> int:
        """Candidates with a q-value of at most `level`."""
        return sum(self.calls_by_band(level))

    def calls_by_band(self, level: float) -> list[int]:
        """The same, band by band."""
        return [discovery.calls(level) for discovery in self.of_band]


def q_values(scores: Scores, decoys: Scores) -> NDArray[np.float32]:
    """q-values of candidates, (P,) float32, by the scores of decoys; both as in `Discovery.estimate`."""
    return Discovery.estimate([scores], decoys)(scores)


def _slices(scores: Scores) -> Iterable[NDArray[np.float32]]:
    """As float32, which is what is kept of a score: what was a tie stays one."""
    return (scores[at : at + AT_ONCE].astype(np.float32) for at in range(0, scores.size, AT_ONCE))


def _exceeding(decoys: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Decoys that reach or exceed each score."""
    return decoys.size - np.searchsorted(decoys, scores, side="left")
