"""Annotations that nobody needs stop no job: what a store cannot hold is renamed, becomes text or goes; it is said."""

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pairscape import ingest as command
from pairscape.pipeline.matrix.annotations import storable
from pairscape.pipeline.matrix.ingest import ingest

N = 6
CELLS = [f"AACCGGTT{a}{b}" for a in "ACG" for b in "AC"]
GENES = ["GATA1", "SPI1", "KLF1", "CD4"]
COUNTS = np.random.default_rng(0).poisson(2.0, (N, 4)).astype(np.float32) + 1


def cells(obs: pd.DataFrame | None = None, var: pd.DataFrame | None = None) -> ad.AnnData:
    return ad.AnnData(
        sparse.csr_matrix(COUNTS),
        obs=pd.DataFrame(index=CELLS) if obs is None else obs.set_axis(CELLS),
        var=pd.DataFrame(index=GENES) if var is None else var,
    )


def objects(*values: Any) -> "np.ndarray[Any, Any]":
    found = np.empty(len(values), object)
    found[:] = values
    return found


# Values, what they become (None: they go), and a word of what is said.
ODD: dict[str, tuple[Any, list[Any] | None, str]] = {
    "complex": (np.ones(N, complex), None, "left out"),
    "lists": (objects(*([1, 2] for _ in range(N))), None, "left out"),
    "dicts": (objects(*({"a": 1} for _ in range(N))), None, "left out"),
    "tuples": (objects(*((1, 2) for _ in range(N))), None, "left out"),
    "arrays": (objects(*(np.ones(2) for _ in range(N))), None, "left out"),
    "things": (objects(*(object() for _ in range(N))), None, "left out"),
    "frames": (objects(*(pd.DataFrame() for _ in range(N))), None, "left out"),
    "words and numbers": (objects("a", 1, "b", 2, "c", 3), ["a", "1", "b", "2", "c", "3"], "kept as text"),
    "whole and broken": (objects(1, 2.5, 1, 2.5, 1, 2.5), ["1", "2.5"] * 3, "kept as text"),
    "flags and gaps": (
        objects(True, None, False, None, True, None),
        ["True", None, "False", None, "True", None],
        "text",
    ),
    "bytes": (objects(*(b"x" for _ in range(N))), ["x"] * N, "kept as text"),
    "dates": (pd.to_datetime(["2020-01-01"] * N), ["2020-01-01 00:00:00"] * N, "kept as text"),
    "dates as objects": (objects(*(datetime.date(2020, 1, 1) for _ in range(N))), ["2020-01-01"] * N, "kept as text"),
    "times": (pd.to_timedelta([1] * N, "h"), ["0 days 01:00:00"] * N, "kept as text"),
    "months": (pd.period_range("2020-01", periods=1, freq="M").repeat(N), ["2020-01"] * N, "kept as text"),
    "intervals": (pd.cut([1, 2, 3, 1, 2, 3], [0, 2, 4]), ["(0, 2]", "(0, 2]", "(2, 4]"] * 2, "kept as text"),
    "decimals": (objects(*(Decimal("1.5") for _ in range(N))), ["1.5"] * N, "kept as text"),
    "categories of both": (pd.Categorical(objects("a", 1, "a", 1, "a", 1)), ["a", "1"] * 3, "kept as text"),
    "categories of dates": (pd.Categorical(pd.to_datetime(["2020"] * N)), ["2020-01-01 00:00:00"] * N, "kept as text"),
    "categories of tuples": (pd.Categorical(objects(*((1, 2) for _ in range(N)))), None, "left out"),
    "words": (["a", "b"] * 3, ["a", "b"] * 3, ""),
    "words and gaps": (objects("a", None, "b", np.nan, "a", "b"), ["a", None, "b", None, "a", "b"], ""),
    "nothing": (objects(*(None for _ in range(N))), [None] * N, ""),
    "text of pandas": (pd.array(["a", None] * 3, dtype="string"), ["a", None] * 3, ""),
    "half numbers": (np.ones(N, np.float16), [1.0] * N, ""),
    "long numbers": (np.ones(N, np.longdouble), [1.0] * N, ""),
    "numbers with gaps": (pd.array([1, None] * 3, dtype="Int64"), [1, None] * 3, ""),
    "real numbers with gaps": (pd.array([1.5, None] * 3, dtype="Float64"), [1.5, None] * 3, ""),
    "mostly zero": (pd.arrays.SparseArray([0, 1] * 3), [0, 1] * 3, ""),
    "flags": ([True, False] * 3, [True, False] * 3, ""),
    "categories of numbers": (pd.Categorical([1, 2] * 3), [1, 2] * 3, ""),
}


def column_of(store: Path, name: str = "odd") -> Any:
    found = ad.read_zarr(store).obs[name].astype(object)
    return [None if pd.isna(value) else value for value in found]


@pytest.mark.parametrize("name", ODD)
def test_values_of_any_kind(name: str, tmp_path: Path) -> None:
    values, expected, words = ODD[name]
    said = ingest(cells(pd.DataFrame({"odd": values, "plain": range(N)})), tmp_path / "e.zarr").notes
    about = [note for note in said if note.startswith("annotations of cells")]
    assert len(about) == bool(words), about
    assert words in " ".join(about)
    if expected is None:
        assert "odd" not in ad.read_zarr(tmp_path / "e.zarr").obs
    else:
        assert column_of(tmp_path / "e.zarr") == expected
    assert column_of(tmp_path / "e.zarr", "plain") == list(range(N))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/b"], ["a_b"]),
        (["a/b", "a_b"], ["a_b", "a_b-1"]),
        (["/"], ["_"]),
        ([""], ["unnamed"]),
        ([5], ["5"]),
        ([("a", 1)], ["('a', 1)"]),
        (["x", "x"], ["x", "x-1"]),
        (["_index"], ["_index_"]),
        ([".."], [".._"]),
        (["cell type", "percent.mt"], ["cell type", "percent.mt"]),
    ],
)
def test_names_of_any_kind(names: list[Any], expected: list[str]) -> None:
    frame = pd.DataFrame(np.zeros((N, len(names)), int), index=CELLS)
    frame.columns = pd.Index(names, tupleize_cols=False)
    kept, notes = storable(frame, "cells")
    assert list(kept.columns) == expected
    assert bool(notes) == (list(map(str, names)) != expected)


def test_an_index_of_the_name_of_a_column(tmp_path: Path) -> None:
    obs = pd.DataFrame({"barcode": range(N)}, index=pd.Index(CELLS, name="barcode"))
    kept, _ = storable(obs, "cells")
    assert kept.index.name is None
    assert ingest(cells(kept), tmp_path / "e.zarr").cells == N


def broken(path: Path, edit: Callable[[h5py.File], None]) -> Path:
    cells(pd.DataFrame({"batch": pd.Categorical(["a", "b"] * 3), "n": range(N)})).write_h5ad(path)
    with h5py.File(path, "r+") as root:
        edit(root)
    return path


def replaced(name: str, value: Any, **attributes: str) -> Callable[[h5py.File], None]:
    def edit(root: h5py.File) -> None:
        if name in root:
            del root[name]
        root[name] = value
        root[name].attrs.update(attributes)

    return edit


def attribute(name: str, **attributes: Any) -> Callable[[h5py.File], None]:
    return lambda root: root[name].attrs.update(attributes)


UNREADABLE: dict[str, tuple[Callable[[h5py.File], None], list[str]]] = {
    "a kind from the future": (attribute("obs/batch", **{"encoding-type": "from the future"}), ["batch"]),
    "a version from the future": (attribute("obs/batch", **{"encoding-version": "9.9"}), ["batch"]),
    "categories that are gone": (lambda root: root["obs/batch"].pop("categories"), ["batch"]),
    "codes that are gone": (lambda root: root["obs/batch"].pop("codes"), ["batch"]),
    "a column that is gone": (lambda root: root["obs"].pop("n"), ["n"]),
    "another length": (
        replaced("obs/n", np.zeros(3), **{"encoding-type": "array", "encoding-version": "0.2.0"}),
        ["n"],
    ),
    "two axes": (replaced("obs/n", np.zeros((N, 2)), **{"encoding-type": "array", "encoding-version": "0.2.0"}), ["n"]),
    "both": (lambda root: [root["obs/batch"].pop("codes"), root["obs"].pop("n")], ["batch", "n"]),
    "genes": (lambda root: [root["var"].attrs.update({"column-order": ["x"]})], ["x"]),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_column_that_cannot_be_read_is_left_out(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit, lost = UNREADABLE[name]
    command(broken(tmp_path / "m.h5ad", edit), tmp_path / "e.zarr")
    out = capfd.readouterr().out
    what = "genes" if name == "genes" else "cells"
    assert f"annotations of {what} left out, which cannot be read: {', '.join(lost)}" in out
    store = ad.read_zarr(tmp_path / "e.zarr")
    assert [column for column in lost if column in store.obs or column in store.var] == []
    np.testing.assert_array_equal(store.layers["counts"].toarray(), COUNTS)


ELSEWHERE: dict[str, Callable[[h5py.File], None]] = {
    "uns of a kind from the future": attribute("uns", **{"encoding-type": "from the future"}),
    "no uns": lambda root: root.pop("uns"),
    "uns that is no group": replaced("uns", 5),
    "uns of something else": replaced("uns/pairscape", "made by me"),
    "raw that is none": replaced("raw", h5py.Empty("f8")),
    "layers that are none": replaced("layers", h5py.Empty("f8")),
    "obsm that is damaged": replaced("obsm/X_pca", np.zeros(3)),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_nobody_reads_stops_nothing(name: str, tmp_path: Path) -> None:
    assert ingest(broken(tmp_path / "m.h5ad", ELSEWHERE[name]), tmp_path / "e.zarr").cells == N


def loom(path: Path, **attributes: Any) -> Path:
    text = h5py.string_dtype()
    with h5py.File(path, "w") as root:
        root["matrix"] = COUNTS.T
        root["row_attrs/Gene"], root["col_attrs/CellID"] = np.array(GENES, text), np.array(CELLS, text)
        for name, value in attributes.items():
            root[name.replace("__", "/")] = value
    return path


FIELDS = [(f"TF{i}(+)", "f8") for i in range(3)]
LOOMS: dict[str, tuple[dict[str, Any], str]] = {
    "regulons": (
        {"row_attrs__Regulons": np.zeros(4, FIELDS)}, "annotations of genes left out, which cannot be read: Regulons",
    ),
    "their activity": ({"col_attrs__RegulonsAUC": np.zeros(N, FIELDS)}, "annotations of cells left out"),
    "an embedding": ({"col_attrs__Embedding": np.zeros(N, [("_X", "f4"), ("_Y", "f4")])}, "annotations of cells left"),
    "complex numbers": ({"col_attrs__wave": np.ones(N, complex)}, "annotations of cells left out"),
    "a group of attributes": ({"col_attrs__a__b": np.ones(N)}, ""),
    "two columns": ({"col_attrs__Embeddings_X": np.zeros((N, 2))}, ""),
    "numbers": ({"col_attrs__nGene": np.arange(N)}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOMS)
def test_attributes_of_loom(name: str, tmp_path: Path) -> None:
    attributes, words = LOOMS[name]
    notes = ingest(loom(tmp_path / "m.loom", **attributes), tmp_path / "e.zarr").notes
    about = [note for note in notes if note.startswith("annotations of")]
    assert len(about) == bool(words), about
    assert words in " ".join(about)
