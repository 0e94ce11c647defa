"""What values are taken for: counts, normalised values and logarithms, of whole matrices and of a few genes."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from conftest import counted
from pairscape.pipeline.matrix.value_kinds import SAMPLED_CELLS, Judged, judge, sampled

Values = NDArray[np.floating[Any]]


RAW = counted()
TOTAL = RAW.sum(axis=1, keepdims=True)
TO_10K, CPM = RAW / TOTAL * 1e4, RAW / TOTAL * 1e6
RNG = np.random.default_rng(1)
CORRECTED = RAW * RNG.uniform(0.6, 1, RAW.shape)
SHARED = RAW @ (np.eye(120) - np.diag(np.tile([0, 0, 0, 1 / 3], 30)) + np.diag(np.tile([0, 0, 0, 1 / 3], 30)[:-1], 1))
CORRECTED_LOG = np.log1p(CORRECTED / CORRECTED.sum(axis=1, keepdims=True) * 1e4)
KINDS: dict[str, tuple[Values, str, str]] = {
    "raw counts": (RAW, "raw counts", ""),
    "counts after a logarithm and back": (np.expm1(np.log1p(RAW)), "raw counts", ""),
    "detected or not": (np.minimum(RAW, 1), "raw counts", ""),
    "no expression": (RAW * 0, "raw counts", ""),
    "counts corrected as SoupX does": (CORRECTED, "fractional counts", ""),
    "counts shared out among genes": (SHARED, "fractional counts", ""),
    "counts in units of a half": (RAW[:, :60] + RAW[:, 60:] / 2, "fractional counts", ""),
    "10,000 per cell": (TO_10K, "normalised", ""),
    "10,000 per cell, a few genes": (TO_10K[:, 40:], "normalised", ""),
    "a million per cell": (CPM, "normalised", ""),
    "shares": (TO_10K / 1e4, "shares", ""),
    "percents": (TO_10K / 100, "shares", ""),
    "natural logarithms": (np.log1p(TO_10K), "log", "natural"),
    "natural logarithms of a few genes": (np.log1p(TO_10K)[:, 40:], "log", "natural"),
    "logarithms to base 2": (np.log2(CPM + 1), "log", "base-2"),
    "logarithms to base 2 of a few genes": (np.log2(CPM + 1)[:, 40:], "log", "base-2"),
    "logarithms to base 10": (np.log10(CPM + 1), "log", "base-10"),
    "logarithms of raw counts": (np.log1p(RAW), "log", "natural"),
    "logarithms to base 2 of raw counts": (np.log2(RAW + 1), "log", "base-2"),
    "counts scaled to the median, some by 1": (RAW / TOTAL * np.median(TOTAL.round(-1)), "shares", ""),
    "the same of a few genes": ((RAW / TOTAL * np.median(TOTAL))[:, 40:], "normalised", ""),
    "logarithms of corrected counts, a few genes": (CORRECTED_LOG[:, 40:], "log", ""),
    "square roots of counts": (np.sqrt(RAW), "square roots", ""),
    "square roots of normalised values": (np.sqrt(TO_10K), "square roots", ""),
    "small fractions that fit both": (RNG.gamma(1.8, 1.0, RAW.shape) * (RAW > 0), "unclear", ""),
}


def judged(x: Values) -> Judged:
    return judge([sparse.csr_matrix(np.asarray(x, np.float32))], "m")


@pytest.mark.parametrize("name", KINDS)
def test_values_are_taken_for_what_they_are(name: str) -> None:
    x, kind, base = KINDS[name]
    found = judged(x)
    assert (found.kind, found.base) == (kind, base), found.why


@pytest.mark.parametrize("cut", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("other", [np.log1p(TO_10K), TO_10K, CORRECTED])
def test_cells_of_counts_among_others_are_refused(cut: float, other: Values, refuses: Any) -> None:
    mixed = np.where(np.arange(len(RAW))[:, None] < cut * len(RAW) + 2, RAW, other)
    with refuses("m: ", "sampled cells hold whole numbers and others do not", "--cells"):
        judged(mixed)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (RAW, ""),
        (np.minimum(RAW, 1), "every expressed value is 1"),
        (np.rint(CPM), "each cell adds up to 1,000,0"),
        (np.rint(TO_10K), "each cell adds up to 10,0"),
    ],
    ids=["counts", "detected", "CPM", "10,000"],
)
def test_what_is_unusual_about_whole_numbers_is_said(x: Values, words: str) -> None:
    found = judged(x)
    assert found.kind == "raw counts"
    assert found.why.startswith(words)
    assert bool(found.why) == bool(words)


def test_few_values_are_told_by_the_largest_and_it_is_said() -> None:
    for x, kind in ((CORRECTED_LOG[:5, 40:], "log"), (CORRECTED[:5] * 40, "normalised")):
        found = judged(x)
        assert found.kind == kind
        assert "from the largest value alone" in found.why


@pytest.mark.parametrize("x", [np.log1p(TO_10K)[:5], np.log1p(TO_10K)])
def test_the_sum_of_cells_is_found_and_said(x: Values) -> None:
    found = judged(x)
    assert found.total == pytest.approx(1e4, rel=1e-4)
    assert found.words() == "natural logarithms of 10,000 per cell"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_what_is_no_expression_is_left_to_the_survey(bad: float) -> None:
    x = CORRECTED.copy()
    x[3, 4] = bad
    assert judged(x).kind == "unclear"


UNLIKE = [(RAW, TO_10K), (RAW, np.log1p(TO_10K)), (TO_10K, np.log1p(TO_10K)), (np.log2(CPM + 1), np.log1p(CPM)),
          (np.log1p(CPM), np.log1p(TO_10K)), (TO_10K, CPM), (CORRECTED, np.log1p(TO_10K))]  # fmt: skip
ALIKE = [(RAW, CORRECTED), (RAW, SHARED), (np.log1p(TO_10K), CORRECTED_LOG), (TO_10K, TO_10K[:, 40:])]


@pytest.mark.parametrize(("pairs", "differ"), [(UNLIKE, True), (ALIKE, False)])
def test_two_sources_differ_where_one_matrix_of_both_would_mislead(
    pairs: list[tuple[Values, Values]], differ: bool
) -> None:
    for one, other in pairs:
        assert judged(one).differs(judged(other)) == differ
        assert judged(other).differs(judged(one)) == differ


@pytest.mark.parametrize("n_cells", [1, 2, 1024, 1025, 100_000])
def test_sampled_cells_lie_all_over_the_matrix(n_cells: int) -> None:
    runs = sampled(n_cells)
    assert (runs[0][0], runs[-1][1]) == (0, n_cells)
    assert all(0 < stop - start <= max(SAMPLED_CELLS, n_cells if n_cells <= 1024 else 0) for start, stop in runs)
    assert all(before[1] <= after[0] for before, after in pairwise(runs))
