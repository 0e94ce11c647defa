"""Matrices of every container: the same values, the same hash, and one clear line for what cannot be used."""

import gzip
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy
import zarr
from anndata.io import write_elem
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.datasets.demo import demo_cells
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.expression import open_expression, reopen_expression
from pairscape.pipeline.matrix.open import read_any
from pairscape.pipeline.storage.paths import fingerprint

GENES = ["CTSH", "IL1B", "RPL23A", "CD81", "TLR2"]
CELLS = [f"LPS_1h_S{i}" for i in range(7)]


def values() -> NDArray[np.float32]:
    """(7 cells, 5 genes) float32: gene g of cell c is c + g / 8, each third value zero."""
    x = np.add.outer(np.arange(7), np.arange(5) / 8).astype(np.float32)
    x.flat[::3] = 0
    return x


def adata(x: Any = None) -> ad.AnnData:
    """The values above under the names above, with an annotation of each axis."""
    obs = pd.DataFrame({"batch": pd.Categorical(list("aabbaab"))}, index=CELLS)
    var = pd.DataFrame({"symbol": [g.lower() for g in GENES]}, index=GENES)
    return ad.AnnData(sparse.csr_matrix(values()) if x is None else x, obs=obs, var=var)


def write_zarr(cells: ad.AnnData, path: Path, zarr_format: Literal[2, 3]) -> Path:
    write_elem(
        zarr.open_group(str(path), mode="w", zarr_format=zarr_format), "/", cells, dataset_kwargs={"shards": None}
    )
    return path


def write_h5ad(cells: ad.AnnData, path: Path) -> Path:
    cells.write_h5ad(path)
    return path


def frame() -> pd.DataFrame:
    return pd.DataFrame(values(), index=CELLS, columns=GENES)


def write_csv(table: pd.DataFrame, path: Path, **options: Any) -> Path:
    table.to_csv(path, **options)
    return path


def legacy_h5ad(path: Path) -> Path:
    """As anndata wrote it before 0.7: record arrays, h5sparse attributes, bytes as names."""
    x = sparse.csr_matrix(values())
    with h5py.File(path, "w") as root:
        group = root.create_group("X")
        group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", x.shape
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(x, name)
        root["obs"] = np.array([(c.encode(), 1.0) for c in CELLS], dtype=[("index", "S16"), ("n", "f4")])
        root["var"] = np.array([(g.encode(),) for g in GENES], dtype=[("index", "S16")])
    return path


CONTAINERS: dict[str, Callable[[Path], Path | ad.AnnData]] = {
    "h5ad csr": lambda d: write_h5ad(adata(), d / "m.h5ad"),
    "h5ad csc": lambda d: write_h5ad(adata(sparse.csc_matrix(values())), d / "m.h5ad"),
    "h5ad dense": lambda d: write_h5ad(adata(values()), d / "m.h5ad"),
    "h5ad float64": lambda d: write_h5ad(adata(sparse.csr_matrix(values().astype(float))), d / "m.h5ad"),
    "h5ad before 0.7": lambda d: legacy_h5ad(d / "m.h5ad"),
    "zarr 2 csr": lambda d: write_zarr(adata(), d / "m.zarr", 2),
    "zarr 3 csr": lambda d: write_zarr(adata(), d / "m.zarr", 3),
    "zarr 3 csc": lambda d: write_zarr(adata(sparse.csc_matrix(values())), d / "m.zarr", 3),
    "zarr 2 dense": lambda d: write_zarr(adata(values()), d / "m.zarr", 2),
    "memory csr": lambda d: adata(),
    "memory csc": lambda d: adata(sparse.csc_matrix(values())),
    "memory dense": lambda d: adata(values()),
    "memory view": lambda d: ad.concat([adata(), adata()], index_unique="-", merge="same")[:7],
    "memory backed": lambda d: ad.read_h5ad(write_h5ad(adata(), d / "m.h5ad"), backed="r"),
}
TABLES: dict[str, Callable[[Path], Path]] = {
    "csv genes by cells": lambda d: write_csv(frame().T, d / "m.csv"),
    "csv cells by genes": lambda d: write_csv(frame(), d / "m.csv"),
    "csv.gz": lambda d: write_csv(frame().T, d / "m.csv.gz"),
    "tsv": lambda d: write_csv(frame(), d / "m.tsv", sep="\t"),
    "txt with spaces, quoted": lambda d: write_csv(frame(), d / "m.txt", sep=" ", quoting=2),
    "byte-order mark and CRLF": lambda d: write_csv(frame(), d / "m.csv", encoding="utf-8-sig", lineterminator="\r\n"),
    "R, no name above the names": lambda d: write_csv(frame(), d / "m.csv", index_label=False),
    "semicolons": lambda d: write_csv(frame().T, d / "m.csv", sep=";"),
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_rows_of_every_container(make: Callable[[Path], Path | ad.AnnData], tmp_path: Path) -> None:
    expression = open_expression(make(tmp_path))
    block = expression.rows(2, 6)
    np.testing.assert_array_equal(block.toarray(), values()[2:6])
    assert block.dtype == np.float32
    assert block.nnz == int(np.count_nonzero(values()[2:6]))
    assert sparse.isspmatrix_csr(block)
    assert block.has_sorted_indices
    assert (expression.n_cells, expression.genes) == (7, tuple(GENES))
    assert expression.rows(7, 7).shape == (0, 5)
    assert len(expression.obs()) == 7


@pytest.mark.parametrize("make", (CONTAINERS | TABLES).values(), ids=CONTAINERS | TABLES)
def test_one_hash_for_every_container(make: Callable[[Path], Path | ad.AnnData], tmp_path: Path) -> None:
    source, expected = make(tmp_path), open_expression(adata()).content_hash()
    assert open_expression(read_any(source)).content_hash() == expected
    if make in CONTAINERS.values():
        assert open_expression(source).content_hash() == expected


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_a_hash_of_several_blocks(
    make: Callable[[Path], Path | ad.AnnData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairscape.pipeline.matrix.expression.HASH_CELLS", 3)
    monkeypatch.setattr(
        "pairscape.pipeline.matrix.formats.hdf5_zarr.DENSE_VALUES", 10
    )  # two cells of a dense matrix at a time
    total = hashlib.sha256(json.dumps([7, GENES]).encode())
    for start in (0, 3, 6):
        rows = sparse.csr_matrix(values()[start : start + 3])
        parts = np.diff(rows.indptr).astype("<i8"), rows.indices.astype("<i4"), rows.data.astype("<f4")
        total.update(hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest())
    assert open_expression(make(tmp_path)).content_hash() == total.hexdigest()


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_a_worker_reopens_what_was_accepted(make: Callable[[Path], Path | ad.AnnData], tmp_path: Path) -> None:
    source = make(tmp_path)
    if isinstance(source, Path):
        accepted, again = open_expression(source), reopen_expression(str(source))
        assert (again.genes, again.n_cells) == (accepted.genes, accepted.n_cells)
        np.testing.assert_array_equal(again.rows(2, 6).toarray(), values()[2:6])
        assert accepted.layout().fullest([slice(0, 4), np.array([4, 6])]) >= np.count_nonzero(values()[:4])


def test_the_fingerprint_sees_each_file(tmp_path: Path) -> None:
    path = write_zarr(adata(), tmp_path / "m.zarr", 3)
    seen = {fingerprint(path)}
    assert fingerprint(path) in seen
    for change in (
        lambda: os.utime(path / "X" / "zarr.json", ns=(1, 1)),
        lambda: (path / "obs" / "more").write_bytes(b"x"),
        lambda: (path / "obs" / "more").rename(path / "obs" / "other"),
        lambda: (path / "obs" / "other").unlink(),
    ):
        change()
        seen.add(fingerprint(path))
    assert len(seen) == 4  # the last is as before the second
    file = write_h5ad(adata(), tmp_path / "m.h5ad")
    before = fingerprint(file)
    os.utime(file, ns=(1, 1))
    assert fingerprint(file) != before


@pytest.mark.parametrize("cells", [[0, 1, 2], [1, 3, 6], [0, 6], [4]])
def test_selected_cells(cells: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairscape.pipeline.matrix.expression.SELECT_BLOCK", 3)
    monkeypatch.setattr("pairscape.pipeline.matrix.expression.SELECT_GAP", 2)
    np.testing.assert_array_equal(open_expression(adata()).select(np.array(cells)).toarray(), values()[cells])


@pytest.mark.parametrize("change", ["value", "place", "gene"])
def test_the_hash_sees_each_change(change: str) -> None:
    other = adata(values())
    if change == "value":
        other.X[6, 4] += 1e-3
    elif change == "place":
        other.X[[0, 1]] = other.X[[1, 0]]
    else:
        other.var_names = [*GENES[:4], "TLR4"]
    assert open_expression(other).content_hash() != open_expression(adata()).content_hash()


def test_symbols_annotations_and_pickle(tmp_path: Path) -> None:
    expression = pickle.loads(pickle.dumps(open_expression(write_h5ad(adata(), tmp_path / "m.h5ad"))))
    assert expression.symbols == ("ctsh", "il1b", "rpl23a", "cd81", "tlr2")
    assert list(expression.obs()["batch"]) == list("aabbaab")
    np.testing.assert_array_equal(expression.rows(0, 7).toarray(), values())


def test_cellxgene_symbols_may_be_missing() -> None:
    cells = adata()
    cells.var = pd.DataFrame({"feature_name": pd.Categorical(["A", "B", None, "D", "E"])}, index=GENES)
    assert open_expression(cells).symbols == ("A", "B", "", "D", "E")


def test_explicit_zeros_duplicates_and_unsorted_indices_are_mended_in_a_copy() -> None:
    parts = np.array([1, 2, 0, 4, 5.0], dtype=np.float32), np.array([3, 3, 0, 2, 1]), np.array([0, 2, 3, 5])
    x = sparse.csr_matrix(parts, shape=(3, 5))
    block = open_expression(ad.AnnData(x, var=adata().var)).rows(0, 3)
    np.testing.assert_array_equal(block.indices, [3, 1, 2])
    np.testing.assert_array_equal(block.data, [3, 5, 4])
    assert x.nnz == 5


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_replaced_file_is_read_anew(suffix: str, tmp_path: Path) -> None:
    def write(cells: ad.AnnData) -> Path:
        path = tmp_path / f"m.{suffix}"
        return write_h5ad(cells, path) if suffix == "h5ad" else write_zarr(cells, path, 3)

    expression = open_expression(write(adata()))
    expression.rows(0, 7)
    write(adata(sparse.csr_matrix(values()[::-1])))
    np.testing.assert_array_equal(expression.rows(0, 7).toarray(), values()[::-1])


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    expression = open_expression(write_h5ad(adata(values()), tmp_path / "m.h5ad"))
    write_h5ad(adata(values())[:, :3].copy(), tmp_path / "m.h5ad")
    with pytest.raises(InputError, match="has changed"):
        expression.rows(0, 2)


def test_rows_out_of_range() -> None:
    with pytest.raises(IndexError, match=r"cells 5\.\.8 of a matrix of 7"):
        open_expression(adata()).rows(5, 8)


def test_only_the_block_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expression = open_expression(write_h5ad(adata(), tmp_path / "m.h5ad"))
    read: list[int] = []
    plain = h5py.Dataset.__getitem__

    def counting(self: h5py.Dataset, key: Any, **options: Any) -> Any:
        found = plain(self, key, **options)
        if self.name in ("/X/data", "/X/indices"):
            read.append(len(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    block = expression.rows(3, 5)
    assert read == [block.nnz, block.nnz]


@pytest.mark.parametrize(
    ("make", "told", "by"),
    [
        (TABLES["csv genes by cells"], "genes-by-cells", "names"),
        (TABLES["csv cells by genes"], "cells-by-genes", "names"),
        (
            lambda d: write_csv(pd.DataFrame(values(), index=list("tuvwxyz"), columns=list("abcde")), d / "m.csv"),
            "genes-by-cells",
            "assumption",
        ),
        (CONTAINERS["h5ad csr"], "cells-by-genes", "format"),
    ],
)
def test_orientation_is_told(make: Callable[[Path], Path], told: str, by: str, tmp_path: Path) -> None:
    record = read_any(make(tmp_path)).uns["pairscape"]
    assert (record["orientation"], record["orientation_from"]) == (told, by)


@pytest.mark.parametrize("make", [TABLES["csv cells by genes"], CONTAINERS["h5ad csr"], CONTAINERS["memory csr"]])
def test_orientation_on_request(make: Callable[[Path], Path | ad.AnnData], tmp_path: Path) -> None:
    turned = read_any(make(tmp_path), orientation="genes-by-cells")
    assert (list(turned.obs_names), list(turned.var_names)) == (GENES, CELLS)
    np.testing.assert_array_equal(turned.X.toarray(), values().T)


@pytest.mark.parametrize("container", ["memory", "h5ad", "zarr"])
def test_layers_raw_and_counts(container: str, tmp_path: Path) -> None:
    cells = adata()
    cells.layers["counts"] = sparse.csr_matrix(np.ceil(values()))
    cells.raw = cells
    cells = cells[:, 1:].copy()
    cells.X = cells.X.toarray() - 3
    write: dict[str, Callable[[], Path | ad.AnnData]] = {
        "memory": lambda: cells,
        "h5ad": lambda: write_h5ad(cells, tmp_path / "m.h5ad"),
        "zarr": lambda: write_zarr(cells, tmp_path / "m.zarr", 3),
    }
    source = write[container]()
    np.testing.assert_array_equal(read_any(source, layer="counts").X.toarray(), np.ceil(values())[:, 1:])
    np.testing.assert_array_equal(read_any(source, layer="counts").layers["counts"].toarray(), np.ceil(values())[:, 1:])
    np.testing.assert_array_equal(read_any(source, layer="raw").X.toarray(), values())
    with pytest.raises(InputError, match="give counts or raw, or no --layer"):
        read_any(source, layer="spliced")
    with pytest.raises(InputError, match=r"negative value -3.*--layer counts"):
        read_any(source)
    with pytest.raises(InputError, match="negative value"):
        open_expression(source).rows(0, 7)


def test_cells_of_the_same_name_are_welcome(tmp_path: Path) -> None:
    merged = read_any(write_csv(pd.concat([frame(), frame()]), tmp_path / "m.csv"))
    assert merged.shape == (14, 5)
    assert merged.obs_names.is_unique


def test_the_legacy_file_inside_scanpy_opens() -> None:
    path = Path(scanpy.__file__).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    expression = open_expression(path)
    assert (expression.n_cells, expression.genes[:2]) == (700, ("HES4", "TNFRSF4"))
    with pytest.raises(InputError, match="--layer raw"):
        expression.rows(0, 700)
    demo = open_expression(demo_cells())
    assert open_expression(read_any(path, layer="raw")).content_hash() == demo.content_hash()


def test_gene_names_that_pandas_takes_for_missing(tmp_path: Path) -> None:
    table = frame().rename(columns={"CTSH": "NA", "IL1B": "nan"}).T
    assert list(read_any(write_csv(table, tmp_path / "m.csv")).var_names[:2]) == ["NA", "nan"]


def damaged_zarr(path: Path) -> Path:
    write_zarr(adata(), path, 3)
    (path / "X" / "data" / "c" / "0").write_bytes(b"garbage")
    return path


def renamed(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def text(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def foreign_h5(path: Path) -> Path:
    with h5py.File(path, "w") as root:
        root["matrix/data"] = np.arange(3)
    return path


def spoilt(value: float) -> ad.AnnData:
    x = values()
    x[3, 2] = value
    return adata(sparse.csr_matrix(x))


def twice(cells: ad.AnnData) -> ad.AnnData:
    cells.var_names = ["CTSH", *GENES[:4]]
    return cells


GZ = gzip.compress(b",c1,c2\ng1,1,2\ng2,3,4\n")
BAD: dict[str, tuple[Callable[[Path], Path | ad.AnnData], str]] = {
    "missing file": (lambda d: d / "none.h5ad", "does not exist"),
    "wrong suffix": (lambda d: text(d / "m.xlsx", "x"), "unknown kind of name"),
    "folder of another suffix": (lambda d: renamed(write_zarr(adata(), d / "m.zarr", 3), "m.h5ad"), "is a folder"),
    "file named zarr": (lambda d: text(d / "m.zarr", "x"), "is a file"),
    "empty folder named zarr": (lambda d: folder(d / "m.zarr"), "cannot be read"),
    "damaged chunk": (lambda d: damaged_zarr(d / "m.zarr"), "cannot be read"),
    "h5ad that is no HDF5": (lambda d: text(d / "m.h5ad", "x"), "cannot be read"),
    "h5ad that is no AnnData": (
        lambda d: foreign_h5(d / "m.h5ad"),
        "no AnnData with a matrix: it has no 'X' but matrix",
    ),
    "h5ad without X": (lambda d: write_h5ad(ad.AnnData(obs=adata().obs, var=adata().var), d / "m.h5ad"), "no 'X'"),
    "truncated h5ad": (lambda d: truncated(write_h5ad(adata(), d / "m.h5ad")), "cannot be read"),
    "transposed h5ad": (lambda d: write_h5ad(adata().T, d / "m.h5ad"), "looks transposed"),
    "no X in memory": (lambda d: ad.AnnData(obs=adata().obs, var=adata().var), "has no X"),
    "transposed in memory": (lambda d: adata().T, "looks transposed"),
    "NaN": (lambda d: write_h5ad(spoilt(np.nan), d / "m.h5ad"), "NaN or infinite: 1, the first in gene RPL23A"),
    "infinite": (lambda d: write_zarr(spoilt(np.inf), d / "m.zarr", 3), "NaN or infinite: 1, the first"),
    "infinite as float32": (lambda d: adata(np.where(values() > 6, 1e300, values().astype(float))), "infinite"),
    "negative": (lambda d: write_h5ad(spoilt(-1.5), d / "m.h5ad"), "gene RPL23A has the negative value -1.5"),
    "duplicate genes": (
        lambda d: write_h5ad(twice(adata()), d / "m.h5ad"),
        "more than once: 1, such as CTSH",
    ),
    "duplicate header": (lambda d: text(d / "m.csv", "x,CD4,CD4\nAAACCCGGTT,1,2\nAAACCCGGTA,3,4\n"), "more than once"),
    "gene without name": (lambda d: text(d / "m.csv", ",c1,c2\n,1,2\ng2,3,4\n"), "gene 1 has no name"),
    "one cell": (lambda d: write_h5ad(adata()[:1].copy(), d / "m.h5ad"), "1 cells × 5 genes"),
    "one gene": (lambda d: write_csv(frame().T[:1], d / "m.csv"), "7 cells × 1 genes"),
    "text among numbers": (
        lambda d: text(d / "m.csv", ",c1,c2\ng1,1,high\ng2,3,4\n"),
        "'high' in row 'g1', column 'c2'",
    ),
    "missing number": (lambda d: text(d / "m.csv", ",c1,c2\ng1,1,\ng2,3,4\n"), "'' in row 'g1', column 'c2'"),
    "lines of unequal length": (lambda d: text(d / "m.csv", ",c1,c2\ng1,1,2\ng2,3,4,5\n"), "unequal length"),
    "header of another length": (
        lambda d: text(d / "m.csv", ",c1,c2,c3,c4\ng1,1,2\ng2,3,4\n"),
        "the header has 5 fields",
    ),
    "one column": (lambda d: text(d / "m.csv", "CTSH\nIL1B\n"), "holds no table"),
    "header only": (lambda d: text(d / "m.csv", ",c1,c2\n"), "holds no table"),
    "gz that is not gz": (lambda d: text(d / "m.csv.gz", ",c1,c2\ng1,1,2\n"), "rename it to m.csv"),
    "gz that does not say so": (lambda d: text(d / "m.csv", GZ), "rename it to m.csv.gz"),
    "damaged gz": (lambda d: text(d / "m.csv.gz", GZ[:-12]), "damaged gzip"),
    "not UTF-8": (lambda d: text(d / "m.csv", b"\xff\xfe\x00,"), "not UTF-8"),
    "empty file": (lambda d: text(d / "m.csv", ""), "is empty"),
    "missing layer": (lambda d: write_h5ad(adata(), d / "m.h5ad"), "no layer 'spliced'; it has none"),
    "layer of a table": (lambda d: write_csv(frame(), d / "m.csv"), "no layer 'spliced'; it has none"),
    "unknown orientation": (lambda d: write_csv(frame(), d / "m.csv"), "orientation 'sideways' is unknown"),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "missing layer": {"layer": "spliced"},
    "layer of a table": {"layer": "spliced"},
    "unknown orientation": {"orientation": "sideways"},
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    source = make(tmp_path)
    with pytest.raises(InputError) as refused:
        read_any(source, **OPTIONS.get(case, {}))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    if case not in OPTIONS:
        with pytest.raises(InputError) as refused:
            open_expression(source).content_hash()
        assert "\n" not in str(refused.value)


def test_sample_names_are_not_taken_for_transposition(tmp_path: Path) -> None:
    cells = adata()
    cells.obs_names = ["CD4", "CD8", "IL2", "TNF", "GATA1", "SOX2", "RPL5"]  # sorted populations, named by marker
    assert open_expression(write_h5ad(cells, tmp_path / "m.h5ad")).n_cells == 7


def test_reading_loads_neither_scanpy_nor_torch() -> None:
    code = "import sys, pairscape.pipeline.matrix.expression\n"
    code += "print(sorted({'scanpy', 'torch', 'distributed'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif("PAIRSCAPE_DATA" not in os.environ, reason="PAIRSCAPE_DATA does not name the folder of real data")
@pytest.mark.parametrize(
    ("file", "shape", "told"),
    [
        ("beeline_mdc/ExpressionData.csv", (383, 821), "genes-by-cells"),
        ("mesc_hayashi/NormalizedData.csv", (421, 642), "genes-by-cells"),
        ("pbmc4k/pbmc4k_raw.h5ad", (2170, 33694), "cells-by-genes"),
    ],
)
def test_real_files(file: str, shape: tuple[int, int], told: str, tmp_path: Path) -> None:
    source = shutil.copy(Path(os.environ["PAIRSCAPE_DATA"]) / file, tmp_path)
    cells = read_any(source)
    assert cells.shape == shape
    assert cells.uns["pairscape"]["orientation"] == told
