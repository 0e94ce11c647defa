"""What is read without anndata is what anndata reads, and whatever else is there goes to anndata."""

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import read_elem, write_elem
from scipy import sparse

from pairscape.pipeline.matrix.formats.elements import read_element

INDEX = pd.Index(["c1", "c2", "c3"], dtype=object)
ELEMENTS = {
    "numbers": np.array([1.5, 2.5]),
    "integers": np.arange(4, dtype=np.int32),
    "texts": np.array(["a", "ü", ""], dtype=object),
    "text": "words",
    "number": 3.5,
    "truth": True,
    "nested": {"one": 1, "more": {"text": "b", "list": np.array([1, 2])}, "none": {}},
    "categories": pd.Categorical(["x", None, "x"], categories=["y", "x"]),
    "ordered": pd.Categorical(["low", "high"], categories=["low", "high"], ordered=True),
    "frame": pd.DataFrame(
        {"n": [1, 2, 3], "x": [0.5, np.nan, 1.0], "word": ["a", "b", "c"], "yes": [True, False, True],
         "kind": pd.Categorical(["p", "q", "p"])}, index=INDEX),
    "named": pd.DataFrame({"n": [1, 2, 3]}, index=INDEX.rename("cell")),
    "no columns": pd.DataFrame(index=INDEX),
    "nullable": pd.DataFrame({"n": pd.array([1, None, 3], dtype="Int64")}, index=INDEX),
    "matrix": sparse.csr_matrix(np.eye(3)),
}  # fmt: skip


def roots(tmp_path):
    """An empty HDF5 file and an empty Zarr store."""
    return [h5py.File(tmp_path / "e.h5", "w"), zarr.open_group(tmp_path / "e.zarr", mode="w", zarr_format=2)]


def same(found, expected):
    """Whether two things are the same, of one kind."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[name], expected[name]) for name in expected)
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
        return True
    if sparse.issparse(expected):
        return (found != expected).nnz == 0
    if isinstance(expected, pd.Categorical):
        return found.equals(expected) and found.ordered == expected.ordered
    return type(found) is type(expected) and np.array_equal(found, expected)


@pytest.mark.parametrize("name", ELEMENTS)
def test_it_reads_what_anndata_reads(name, tmp_path):
    for root in roots(tmp_path):
        write_elem(root, name, ELEMENTS[name])
        assert same(read_element(root[name]), read_elem(root[name]))


def test_a_damaged_part_fails_as_anndata_has_it(tmp_path):
    for root in roots(tmp_path):
        write_elem(root, "frame", ELEMENTS["frame"])
        del root["frame"]["x"]
        with pytest.raises(KeyError):
            read_elem(root["frame"])
        with pytest.raises(KeyError):
            read_element(root["frame"])
