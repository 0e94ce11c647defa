"""Memory of encoding tasks: bounded by a block's entries, and refused before anything is spent."""

import pytest
from pipeline.budget import encode_bytes, require_encode_memory

from pipeline.spec import Binning


def test_it_grows_with_the_entries_and_what_they_are():
    small, large = (encode_bytes(20_000, entries, Binning()) for entries in (10**6, 2 * 10**7))
    assert small < large < 24 * 2 * 10**7 + 10**7
    assert encode_bytes(20_000, 2 * 10**7, Binning(), entry_bytes=16) > large


def test_a_block_of_the_atlas_fits_into_two_gigabytes():
    """16,384 cells × 20,000 genes, 5 % non-zero: the promise of the documentation."""
    require_encode_memory(encode_bytes(20_000, 16_384 * 1000, Binning("rank", 255)), 2 * 10**9)


@pytest.mark.parametrize("need", [1_600_000_001, 10**10])
def test_what_does_not_fit_is_refused(need, refuses):
    with refuses("needs", "each worker has 2.0 GB", f"--memory-limit {-(-(need + 4 * 10**8) // 10**8) / 10:.1f}GB"):
        require_encode_memory(need, 2 * 10**9)


@pytest.mark.parametrize("limit", [None, 2 * 10**9])
def test_what_fits_is_not(limit):
    require_encode_memory(1_600_000_000, limit)
