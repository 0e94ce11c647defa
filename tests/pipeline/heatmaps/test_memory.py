"""What a task may hold: it fits or is refused before anything is spent, and never grows with the cells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscape.pipeline.codes.encode import ENCODING, encode_bytes
from pairscape.pipeline.compute.memory import USED_SHARE, WORKER_BASE_BYTES, require_memory
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.kernel import BLOCK_GENES
from pairscape.pipeline.heatmaps.memory import ENTRY_BYTES, portion
from pairscape.pipeline.options import CODES_CELLS, Binning

GB = 10**9
jobs = st.tuples(st.sampled_from([2, 32, 64, 255]), st.integers(2, 50_000_000), st.floats(0.001, 1.0))


@given(jobs, st.floats(0.5, 64))
def test_a_portion_fits_or_is_refused(job, limit):
    """What is planned fits beside the idle worker; whoever is refused is told a limit that is enough."""
    bins, n_cells, density = job
    limit = int(limit * GB)
    try:
        share = portion(Binning(bins=bins), n_cells, density, limit)
    except InputError as error:
        suggested = float(str(error).split("--memory-limit ")[1].split("GB")[0])
        assert suggested * GB > limit
        share, limit = portion(Binning(bins=bins), n_cells, density, int(suggested * GB)), int(suggested * GB)
    assert share.task_bytes + WORKER_BASE_BYTES <= limit * USED_SHARE
    assert 1 <= share.cells <= n_cells
    assert share.shards >= 1
    assert share.cache_bytes >= 0
    slab = share.cells * BLOCK_GENES * density * ENTRY_BYTES
    images = share.shards * Binning(bins=bins).shard_pairs * bins**2 * 4
    assert slab + images + share.cache_bytes <= share.task_bytes


@given(jobs, st.floats(1.5, 64))
def test_what_is_taken_is_no_more_than_what_may_be(job, limit):
    """Genes are kept as far as there are any: a larger limit is not taken."""
    bins, n_cells, density = job
    try:
        share = portion(Binning(bins=bins), n_cells, density, int(limit * GB))
    except InputError:
        return
    assert share.taken_bytes(1e18) == share.task_bytes
    assert share.taken_bytes(1000) == share.task_bytes - share.cache_bytes + min(share.cache_bytes, 5000)


@given(jobs)
def test_more_memory_is_never_worse(job):
    bins, n_cells, density = job
    shares = [portion(Binning(bins=bins), n_cells, density, limit * GB) for limit in (2, 4, 8, 16)]
    assert [share.cells for share in shares] == sorted(share.cells for share in shares)


def test_an_atlas_is_counted_in_one_go_and_a_larger_one_slab_by_slab():
    one, many = (portion(Binning(), cells, 0.05, 3 * GB) for cells in (1_000_000, 100_000_000))
    assert (one.cells, one.shards) == (1_000_000, 1)
    assert one.cache_bytes > 10**9
    assert many.cells < 100_000_000
    assert many.cells % CODES_CELLS == 0
    assert many.shards > 4
    assert portion(Binning(), 200_000_000, 0.05, 3 * GB) == many


def test_without_a_limit_all_cells_are_counted_in_one_go():
    assert portion(Binning(), 5_000_000, 0.1, None).cells == 5_000_000


def test_a_worker_too_small_for_a_task_is_refused_before_it_is_killed(refuses):
    with refuses("needs", " GB", "each worker has 0.5", "--memory-limit", "--workers"):
        portion(Binning(), 1_000_000, 0.05, 500_000_000)


# ── encoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_grows_with_the_entries_and_what_they_are():
    small, large = (encode_bytes(20_000, entries, Binning()) for entries in (10**6, 2 * 10**7))
    assert small < large < 24 * 2 * 10**7 + 10**7
    assert encode_bytes(20_000, 2 * 10**7, Binning(), entry_bytes=16) > large


def test_a_block_of_the_atlas_fits_into_two_gigabytes():
    """16,384 cells × 20,000 genes, 5 % non-zero: the promise of the documentation."""
    require_memory(ENCODING, encode_bytes(20_000, 16_384 * 1000, Binning("rank", 255)), 2 * GB)


@pytest.mark.parametrize("need", [1_100_000_001, 10**10])
def test_what_does_not_fit_is_refused(need, refuses):
    with refuses("encoding a block of 16,384 cells needs", "each worker has 2.0 GB", "--memory-limit"):
        require_memory(ENCODING, need, 2 * GB)


@pytest.mark.parametrize("limit", [None, 2 * GB])
def test_what_fits_is_not(limit):
    require_memory(ENCODING, 1_100_000_000, limit)
