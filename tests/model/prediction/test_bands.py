"""Each band of candidates of like expression has decoys of its own, and the rate that is asked for is kept in each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscape.model.prediction import bands
from pairscape.model.prediction.bands import Bands
from pairscape.model.prediction.fdr import BandedDiscovery, q_values
from pairscape.pipeline.genes.pairs import Pairs


def all_pairs(n_genes):
    a, b = (side.astype(np.int32) for side in np.triu_indices(n_genes, 1))
    return Pairs(a, b, np.zeros(a.size, np.int8))


def test_few_candidates_are_one_band():
    found = Bands.of(all_pairs(100), np.linspace(0, 1, 100))
    assert found.from_share == (0.0,)
    assert not found.number.any()
    assert len(Bands.of(Pairs(*np.empty((2, 0), np.int32), np.empty(0, np.int8)), np.empty(0))) == 1


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([10, 10, 10, 10], (0.0, 0.03, 0.1, 0.3)),
        ([10, 10, 9, 10], (0.0, 0.03, 0.3)),  # with the next rarer ones
        ([9, 10, 10, 10], (0.0, 0.1, 0.3)),  # the rarest with the next more frequent ones
        ([100, 0, 0, 9], (0.0,)),
        ([100, 0, 0, 10], (0.0, 0.3)),
        ([5, 5, 5, 5], (0.0, 0.1)),
        ([0, 0, 0, 40], (0.0,)),
    ],
)
def test_small_bands_join_their_neighbours(monkeypatch, sizes, expected):
    monkeypatch.setattr(bands, "LEAST", 10)
    share = np.repeat([0.01, 0.05, 0.2, 0.5, 0.9], [*sizes, 1])
    rarer = np.arange(sum(sizes), dtype=np.int32)
    found = Bands.of(Pairs(rarer, np.full_like(rarer, sum(sizes)), np.zeros(rarer.size, np.int8)), share)
    assert found.from_share == pytest.approx(expected)
    np.testing.assert_array_equal(np.array(found.from_share)[found.number] <= share[rarer], True)
    assert np.bincount(found.number, minlength=len(found)).min() >= min(10, sum(sizes))
    assert (np.diff(found.number[np.argsort(share[rarer])].astype(int)) >= 0).all()


Scored = st.lists(st.tuples(st.one_of(st.integers(0, 9), st.just(np.nan)), st.integers(0, 2)), min_size=3, max_size=60)


@given(Scored, Scored)
def test_q_values_are_those_of_each_band_alone(candidates, null):
    score, band = np.array(candidates, np.float32).T
    decoy, of_decoy = np.array([*null, (np.nan, 2)], np.float32).T
    band, of_decoy = band.astype(np.uint8), of_decoy.astype(np.uint8)
    found = BandedDiscovery.estimate(np.array_split(score, 3), band, decoy, of_decoy)
    q = found(slice(None), score)
    for one in range(3):
        np.testing.assert_array_equal(q[band == one], q_values(score[band == one], decoy[of_decoy == one]))
    np.testing.assert_array_equal(found(slice(1, 3), score[1:3]), q[1:3])
    for level in (0.05, 0.3, 1.0):
        assert found.calls(level) == (q <= np.float32(level)).sum()
    assert found.smallest <= np.nanmin(q, initial=1)


def test_rare_pairs_do_not_hide_what_frequent_ones_show():
    """A hundred clear pairs among 10,000 of frequent genes, beside 200,000 pairs of which chance makes strange ones."""
    rng = np.random.default_rng(0)
    band = np.repeat(np.array([0, 1], np.uint8), [200_000, 10_000])
    score = np.concatenate([rng.normal(0, 2, 200_000), rng.normal(0, 0.5, 9_900), rng.normal(6, 0.5, 100)])
    drawn = np.concatenate([rng.normal(0, 2, 10_000), rng.normal(0, 0.5, 10_000)])
    apart = BandedDiscovery.estimate([score], band, drawn, np.repeat(np.array([0, 1], np.uint8), 10_000))
    q = apart(slice(None), score)
    assert (q[-100:] <= 0.05).all()
    assert (q[:-100] <= 0.05).sum() <= 12  # 5 % of the calls are expected
    assert (q_values(score, drawn) <= 0.05).sum() == 0
