"""The cost model: what it foresees is a weighted sum, and a sample stands for the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.tiles import (
    EVENT_SECONDS,
    IMAGE_SECONDS,
    Rates,
    Sample,
    counting_seconds,
    pair_events,
    shard_seconds,
    spread_runs,
)


def test_events_are_those_of_independent_genes():
    """Against cells drawn at random: the expected number that express both genes."""
    density, rng = np.array([0.5, 0.02, 0.3]), np.random.default_rng(0)
    pairs = Pairs(np.array([0, 0, 1], np.int32), np.array([1, 2, 2], np.int32), np.zeros(3, np.int8))
    expressed = rng.random((200_000, 3)) < density
    together = (expressed[:, pairs.gene_a] & expressed[:, pairs.gene_b]).sum(axis=0)
    np.testing.assert_allclose(pair_events(pairs, density, 200_000), together, rtol=0.1)


events_of = st.integers(1, 300).flatmap(lambda n: arrays(np.float32, n, elements=st.floats(0, 1e6, width=32)))


@given(events_of, st.integers(1, 50), st.floats(0.1, 10), st.floats(1e-7, 1e-4))
def test_every_image_is_foreseen_in_its_shard(events, size, counting, writing):
    seconds = shard_seconds(events, size, Rates(counting, writing))
    assert seconds.size == -(-events.size // size)
    for shard, found in enumerate(seconds):
        own = events[shard * size : (shard + 1) * size].astype(float)
        wanted = counting * (own.size * IMAGE_SECONDS + own.sum() * EVENT_SECONDS) + own.size * writing
        assert found == pytest.approx(wanted, rel=1e-5)


@given(events_of, st.integers(1, 40), st.integers(1, 30))
def test_samples_are_runs_of_rows_that_do_not_overlap(events, n_samples, size):
    runs = spread_runs(events, n_samples, size)
    assert 1 <= len(runs) <= n_samples
    rows = [row for run in runs for row in range(run.start, run.stop)]
    assert rows == sorted(set(rows))
    assert rows[-1] < events.size
    if n_samples >= -(-events.size // size):
        assert rows == list(range(events.size))


def test_a_sample_stands_for_the_whole():
    """Of events that rise a thousandfold along the store, 32 runs tell the mean within a few percent."""
    events = np.geomspace(1, 1000, 400_000).astype(np.float32)
    some = np.concatenate([events[run] for run in spread_runs(events, 32, 1024)])
    assert some.mean() == pytest.approx(events.mean(), rel=0.05)


def test_rates_reproduce_what_was_measured():
    sample = Sample(images=2000, events=3e6, counting=0.5, writing=0.02, reading=0.9, chunks_read=30, n_bytes=240_000)
    rates = Rates.measured(sample)
    foreseen = float(counting_seconds(np.array(2000.0), np.array(3e6)))
    assert rates.counting * foreseen == pytest.approx(0.5)
    assert (rates.writing * 2000, rates.chunk * 30, rates.image_bytes) == pytest.approx((0.02, 0.9, 120))
