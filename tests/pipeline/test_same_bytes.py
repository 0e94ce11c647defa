"""Stores are the same bytes on any versions of the libraries: digests of small ones, known from the pinned versions."""

import hashlib

import numpy as np
import pytest

from conftest import simulated, store_expression
from pairscape.pipeline.commands import heatmaps
from pairscape.pipeline.options import PairSource

KNOWN = {  # store and arrays
    ("expression.zarr", "X"): "ac467c4baf81d48f",
    ("expression.zarr", "obs/_index"): "8825729497cbd975",
    ("codes.zarr", "codes"): "0128fdaacf8274b2",
    ("codes.zarr", "edges"): "271d276ad510c0ef",
    ("images.zarr", "counts"): "4525dd424d78b2ed",
    ("images.zarr", "both_zero"): "e2723acaf193a4d8",
    ("images.zarr", "gene"): "394d48f0cc92492f",
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    expression = store_expression(folder / "expression.zarr", np.round(4 * simulated(60, 12)) / 4)
    heatmaps(
        expression, folder / "images.zarr", source=PairSource(all_pairs=True), codes=folder / "codes.zarr", seed=1,
        scheduler="synchronous", quiet=True,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("array", KNOWN, ids="/".join)
def test_every_version_writes_these_bytes(array, stores):
    files = sorted(path for path in stores.joinpath(*array).rglob("*") if path.is_file())
    assert files
    total = hashlib.sha256(b"".join(path.read_bytes() for path in files))
    assert total.hexdigest()[:16] == KNOWN[array]
