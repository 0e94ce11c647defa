"""Every format, by the library that owns it: the same values under the same names. The table of docs/formats.md."""

import gzip
import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import fsspec
import h5py
import loompy
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from anndata.io import write_elem
from numpy.typing import NDArray
from scipy import sparse
from scipy.io import mmwrite

from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.matrix import source as stored
from pairscape.pipeline.matrix.expression import block_digest, matrix_hash
from pairscape.pipeline.matrix.formats import by_cells, dense, hdf5_zarr
from pairscape.pipeline.matrix.formats import text as textfile
from pairscape.pipeline.matrix.open import open_source
from pairscape.pipeline.matrix.source import Source

Write = Callable[[Path, NDArray[np.float32]], Any]
Turned = Literal["genes", "cells"]

N, G = 12, 7
CELLS = [f"AAACCCGGTT{a}{b}-1" for a in "ACG" for b in "ACGT"]
GENES = ["CTSH", "IL1B", "RPL23A", "CD81", "TLR2", "STAT1", "HLA-DRA"]
IDS = [f"ENSG0000000{i:04}" for i in range(G)]


def values(kind: str) -> NDArray[np.float32]:
    """(12 cells, 7 genes) float32, a third of it zero: counts, each telling its place, or their logarithm."""
    counts = np.add.outer(np.arange(N) * 10, np.arange(G)).astype(np.float32) + 1
    counts.flat[::3] = 0
    return np.log1p(counts) if kind == "log" else counts


def adata(x: Any) -> ad.AnnData:
    obs = pd.DataFrame({"batch": pd.Categorical(list("aabb" * 3))}, index=CELLS)
    return ad.AnnData(x, obs=obs, var=pd.DataFrame({"symbol": [g.lower() for g in GENES]}, index=GENES))


def h5ad(x: Any, path: Path) -> Path:
    adata(x).write_h5ad(path)
    return path


def zarred(x: Any, path: Path | str, zarr_format: Literal[2, 3]) -> str:
    return written_zarr(adata(x), path, zarr_format)


def written_zarr(cells: ad.AnnData, path: Path | str, zarr_format: Literal[2, 3] = 3) -> str:
    root = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    write_elem(root, "/", cells, dataset_kwargs={"shards": None})
    return str(path)


def table(path: Path, x: NDArray[np.float32], rows: Turned, **options: Any) -> Path:
    frame = pd.DataFrame(x, index=CELLS, columns=GENES)
    (frame if rows == "cells" else frame.T).to_csv(path, **options)
    return path


def mtx(folder: Path, x: NDArray[np.float32], *, version: int, zipped: bool, rows: Turned = "genes") -> Path:
    """As `cellranger count` writes it, or the other way round, as kallisto does."""
    folder.mkdir()
    matrix = sparse.coo_matrix(x.T if rows == "genes" else x)
    mmwrite(folder / "matrix.mtx", matrix, field="integer" if np.array_equal(x, np.rint(x)) else "real", precision=9)
    features = "".join(
        f"{i}\t{g}" + ("\tGene Expression\n" if version == 3 else "\n") for i, g in zip(IDS, GENES, strict=True)
    )
    (folder / ("features.tsv" if version == 3 else "genes.tsv")).write_text(features)
    (folder / "barcodes.tsv").write_text("".join(f"{c}\n" for c in CELLS))
    for file in list(folder.iterdir()) if zipped else []:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    return folder


def shuffled_mtx(folder: Path, x: NDArray[np.float32]) -> Path:
    """The same entries in no order."""
    mtx(folder, x, version=3, zipped=False)
    lines = (folder / "matrix.mtx").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("%")) + 1
    np.random.default_rng(0).shuffle(entries := lines[first:])
    (folder / "matrix.mtx").write_text("\n".join([*lines[:first], *entries]) + "\n")
    return folder


def tenx_v3(path: Path, x: NDArray[np.float32], *, antibodies: int = 0) -> Path:
    """The members that Cell Ranger 3 and later write; antibodies come between the genes."""
    full = np.insert(x, [3] * antibodies, 99, axis=1)
    names = list(np.insert(np.array(IDS, object), [3] * antibodies, [f"CD{i}_TotalA" for i in range(antibodies)]))
    symbols = list(np.insert(np.array(GENES, object), [3] * antibodies, [f"CD{i}" for i in range(antibodies)]))
    kinds = list(np.insert(np.array(["Gene Expression"] * G, object), [3] * antibodies, "Antibody Capture"))
    matrix = sparse.csc_matrix(full.T)
    with h5py.File(path, "w") as root:
        group = root.create_group("matrix")
        group["barcodes"] = np.array(CELLS, "S")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        group["shape"] = np.array(matrix.shape, np.int32)
        features = {"id": names, "name": symbols, "feature_type": kinds, "genome": ["GRCh38"] * len(names)}
        for name, column in features.items():
            group[f"features/{name}"] = np.array(column, "S")
    return path


def tenx_v2(path: Path, x: NDArray[np.float32], genomes: tuple[str, ...] = ("GRCh38",)) -> Path:
    matrix = sparse.csc_matrix(x.T)
    with h5py.File(path, "w") as root:
        for genome in genomes:
            group = root.create_group(genome)
            group["barcodes"], group["genes"] = np.array(CELLS, "S"), np.array(IDS, "S")
            group["gene_names"], group["shape"] = np.array(GENES, "S"), np.array(matrix.shape, np.int32)
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(matrix, name)
    return path


def loom(path: Path, x: NDArray[np.float32], **layers: NDArray[np.float32]) -> Path:
    rows, columns = {"Gene": np.array(GENES), "Accession": np.array(IDS)}, {"CellID": np.array(CELLS)}
    whole = {"": x.T, **{name: layer.T for name, layer in layers.items()}}
    loompy.create(str(path), whole if layers else x.T, rows, columns | {"batch": np.array(list("aabb" * 3))})
    return path


def hdf(
    path: Path, x: NDArray[np.float32], rows: Turned = "cells", genes: list[Any] = GENES, key: str = "rpkm"
) -> Path:
    frame = pd.DataFrame(x, index=CELLS, columns=genes)
    (frame if rows == "cells" else frame.T).to_hdf(path, key=key, mode="a")
    return path


def xarray(path: Path, x: NDArray[np.float32], dims: tuple[str, str], zarr_format: Literal[2, 3]) -> Path:
    turned = dims[0].startswith("g")
    genes, cells = np.array(GENES, object), np.array(CELLS, object)
    names = dict(zip(dims, (genes, cells) if turned else (cells, genes), strict=True))
    xr.Dataset({"counts": (dims, x.T if turned else x)}, coords=names).to_zarr(
        path, zarr_format=zarr_format, consolidated=False
    )
    return path


FORMATS: dict[str, Write] = {
    "h5ad, CSR": lambda d, x: h5ad(sparse.csr_matrix(x), d / "m.h5ad"),
    "h5ad, CSC": lambda d, x: h5ad(sparse.csc_matrix(x), d / "m.h5ad"),
    "h5ad, dense": lambda d, x: h5ad(x, d / "m.h5ad"),
    "AnnData-Zarr 2, CSR": lambda d, x: zarred(sparse.csr_matrix(x), d / "m.zarr", 2),
    "AnnData-Zarr 3, CSR": lambda d, x: zarred(sparse.csr_matrix(x), d / "m.zarr", 3),
    "AnnData-Zarr 3, CSC": lambda d, x: zarred(sparse.csc_matrix(x), d / "m.zarr", 3),
    "AnnData-Zarr 2, dense": lambda d, x: zarred(x, d / "m.zarr", 2),
    "AnnData in memory, CSR": lambda d, x: adata(sparse.csr_matrix(x)),
    "AnnData in memory, CSC": lambda d, x: adata(sparse.csc_matrix(x)),
    "AnnData in memory, dense": lambda d, x: adata(x),
    "AnnData-Zarr by URL": lambda d, x: zarred(sparse.csr_matrix(x), f"memory://{d.name}/m.zarr", 3),
    "h5ad by URL": lambda d, x: uploaded(h5ad(sparse.csr_matrix(x), d / "m.h5ad"), f"memory://{d.name}/m.h5ad"),
    "10x h5, version 3": lambda d, x: tenx_v3(d / "m.h5", x),
    "10x h5, version 2": lambda d, x: tenx_v2(d / "m.h5", x),
    "10x folder, version 3": lambda d, x: mtx(d / "m", x, version=3, zipped=True),
    "10x folder, version 2": lambda d, x: mtx(d / "m", x, version=2, zipped=False),
    "mtx, unsorted": lambda d, x: shuffled_mtx(d / "m", x),
    "mtx by its path": lambda d, x: mtx(d / "m", x, version=3, zipped=True) / "matrix.mtx.gz",
    "mtx, cells × genes": lambda d, x: mtx(d / "m", x, version=3, zipped=False, rows="cells"),
    "loom": lambda d, x: loom(d / "m.loom", x),
    "csv, genes × cells": lambda d, x: table(d / "m.csv", x, "genes"),
    "csv, cells × genes": lambda d, x: table(d / "m.csv", x, "cells"),
    "csv.gz, genes × cells": lambda d, x: table(d / "m.csv.gz", x, "genes"),
    "tsv.gz, cells × genes": lambda d, x: table(d / "m.tsv.gz", x, "cells", sep="\t"),
    "txt, quoted names": lambda d, x: table(d / "m.txt", x, "genes", sep=" ", quoting=2),
    "csv with byte-order mark and CRLF": lambda d, x: table(
        d / "m.csv", x, "cells", encoding="utf-8-sig", lineterminator="\r\n"
    ),
    "csv of R, no name above the names": lambda d, x: table(d / "m.csv", x, "genes", index_label=False),
    "csv with semicolons": lambda d, x: table(d / "m.csv", x, "genes", sep=";"),
    "csv by URL": lambda d, x: uploaded(table(d / "m.csv", x, "genes"), f"memory://{d.name}/m.csv"),
    "pandas HDF5, cells × genes": lambda d, x: hdf(d / "m.h5", x),
    "pandas HDF5, genes × cells": lambda d, x: hdf(d / "m.h5", x, "genes"),
    "xarray Zarr 3, cell × gene": lambda d, x: xarray(d / "m.zarr", x, ("cell", "gene"), 3),
    "xarray Zarr 3, gene × cell": lambda d, x: xarray(d / "m.zarr", x, ("gene", "cell"), 3),
    "xarray Zarr 2, cell × gene": lambda d, x: xarray(d / "m.zarr", x, ("cell", "gene"), 2),
    "several h5ad": lambda d, x: several(d, x),
    "several, by a pattern": lambda d, x: several(d, x)[0].replace("part1", "part?"),
}
BY_ID = ("10x", "mtx", "loom")  # formats that name genes by ids, with the symbols beside them
WAYS = {
    "genes-by-cells": ("10x", "loom", "genes ×", "gene ×", "quoted", "of R", "semicolons", "csv by URL", "mtx"),
}


def uploaded(path: Path, url: str) -> str:
    with fsspec.open(url, "wb") as file:
        file.write(path.read_bytes())
    return url


def several(folder: Path, x: NDArray[np.float32]) -> list[str]:
    """Two files of six cells each, the second with its genes in another order."""
    parts = adata(sparse.csr_matrix(x))[:6].copy(), adata(sparse.csr_matrix(x))[6:, ::-1].copy()
    for i, part in enumerate(parts, 1):
        part.write_h5ad(folder / f"part{i}.h5ad")
    return [str(folder / f"part{i}.h5ad") for i in (1, 2)]


def opened(source: Any, scratch: Path, **options: Any) -> Source:
    return open_source(source, scratch=scratch, progress=Silent(), **options)


def content(source: Source) -> str:
    """Hash of values and names, read in blocks that fit no chunk."""
    reader = pickle.loads(pickle.dumps(source.values))
    blocks = [reader.rows(a, min(a + 5, N)) for a in range(0, N, 5)]
    for block in blocks:
        assert (block.dtype, block.has_canonical_format, int((block.data == 0).sum())) == (np.float32, True, 0)
    whole = sparse.vstack(blocks, format="csr")
    names = hashlib.sha256(json.dumps(list(source.obs.index)).encode()).hexdigest()
    return matrix_hash(len(source.obs), tuple(source.var.index), [block_digest(whole), names])


def expected(x: NDArray[np.float32], genes: list[str]) -> str:
    names = hashlib.sha256(json.dumps(CELLS).encode()).hexdigest()
    return matrix_hash(N, tuple(genes), [block_digest(sparse.csr_matrix(x)), names])


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every format also where nothing but buckets can hold it, and no more than a few values fit into memory."""
    if request.param == "turned":
        monkeypatch.setattr(stored.Held, "LARGEST", 0)
        monkeypatch.setattr(dense, "UNIT_VALUES", 0)
        monkeypatch.setattr(dense, "DENSE_VALUES", 20)
        monkeypatch.setattr(hdf5_zarr, "DENSE_VALUES", 20)
        monkeypatch.setattr(stored, "PART", 10)
        monkeypatch.setattr(by_cells, "PART", 10)
        monkeypatch.setattr(by_cells, "MOST_BUCKETS", 5)
        monkeypatch.setattr("pairscape.pipeline.matrix.formats.mtx.PART", 10)
        monkeypatch.setattr(textfile, "BLOCK", 50)
    return str(request.param)


@pytest.mark.parametrize(("kind", "way"), [("raw", "turned"), ("log", "as it is")], indirect=["way"])
@pytest.mark.parametrize("form", FORMATS)
def test_one_content_from_every_format(form: str, kind: str, way: str, tmp_path: Path) -> None:
    x = values(kind)
    source = opened(FORMATS[form](tmp_path, x), tmp_path / "scratch")
    by_id = form.startswith(BY_ID)
    assert content(source) == expected(x, IDS if by_id else GENES)
    if by_id:
        assert list(source.var["symbol"]) == GENES
    turned = "cells ×" not in form and "cell ×" not in form and any(w in form for w in WAYS["genes-by-cells"])
    assert source.orientation == ("genes-by-cells" if turned else "cells-by-genes")
    text = form.startswith(("csv", "tsv", "txt", "pandas"))
    assert source.orientation_from == ("names" if text else "format")
    assert source.values.rows(4, 4).shape == (0, G)


def test_antibodies_are_left_out_and_said(tmp_path: Path) -> None:
    source = opened(tenx_v3(tmp_path / "m.h5", values("raw"), antibodies=2), tmp_path)
    assert content(source) == expected(values("raw"), IDS)
    assert source.notes == ("left out, as no genes or cells: features of the type Antibody Capture (2: CD0, CD1)",)


def test_the_key_names_a_genome(tmp_path: Path) -> None:
    path = tenx_v2(tmp_path / "m.h5", values("raw"), ("GRCh38", "mm10"))
    assert content(opened(path, tmp_path, key="mm10")) == expected(values("raw"), IDS)
    path = tenx_v3(tmp_path / "v3.h5", values("raw"))
    with h5py.File(path, "r+") as root:
        del root["matrix/features/genome"]
        root["matrix/features/genome"] = np.array(["GRCh38"] * 4 + ["mm10"] * 3, "S")
    source = opened(path, tmp_path, key="GRCh38")
    np.testing.assert_array_equal(source.values.rows(0, N).toarray(), values("raw")[:, :4])
    assert source.notes == ("features left out: 3 of 7, of another genome than GRCh38",)


@pytest.mark.parametrize("form", ["h5ad", "zarr", "memory", "loom"])
def test_layers_and_counts(form: str, tmp_path: Path) -> None:
    cells = adata(sparse.csr_matrix(values("log")))
    cells.layers["counts"] = sparse.csc_matrix(values("raw"))
    cells.layers["spliced"] = values("raw") * 2
    write: dict[str, Callable[[], Any]] = {
        "h5ad": lambda: cells.write_h5ad(tmp_path / "m.h5ad") or tmp_path / "m.h5ad",
        "zarr": lambda: written_zarr(cells, tmp_path / "m.zarr"),
        "memory": lambda: cells,
        "loom": lambda: loom(tmp_path / "m.loom", values("log"), counts=values("raw"), spliced=values("raw") * 2),
    }
    given = write[form]()
    source = opened(given, tmp_path / "scratch")
    assert source.counts is not None
    np.testing.assert_array_equal(source.values.rows(2, 9).toarray(), values("log")[2:9])
    np.testing.assert_array_equal(source.counts.rows(2, 9).toarray(), values("raw")[2:9])
    spliced = opened(given, tmp_path / "scratch", layer="spliced")
    np.testing.assert_array_equal(spliced.values.rows(2, 9).toarray(), values("raw")[2:9] * 2)
    assert list(source.obs["batch"]) == list("aabb" * 3)


def test_raw_has_its_own_genes(tmp_path: Path) -> None:
    cells = adata(sparse.csr_matrix(values("raw")))
    cells.raw = cells
    cells = cells[:, 2:].copy()
    cells.write_h5ad(tmp_path / "m.h5ad")
    assert content(opened(tmp_path / "m.h5ad", tmp_path, layer="raw")) == expected(values("raw"), GENES)


def test_entrez_ids_become_text_and_the_key_names_a_table(tmp_path: Path) -> None:
    numbers = [7124, 3553, 1508, 975, 7097, 6772, 3122]
    path = hdf(tmp_path / "m.h5", values("raw"), genes=numbers)
    assert list(opened(path, tmp_path).var.index) == [str(number) for number in numbers]
    assert opened(path, tmp_path).orientation_from == "names"
    hdf(path, values("log"), key="log")
    assert content(opened(path, tmp_path, key="log")) == expected(values("log"), GENES)


def test_a_request_overrules_the_format(tmp_path: Path) -> None:
    for path in (h5ad(sparse.csr_matrix(values("raw")), tmp_path / "m.h5ad"), loom(tmp_path / "m.loom", values("raw"))):
        genes_first = path.suffix == ".loom"
        asked = "cells-by-genes" if genes_first else "genes-by-cells"
        source = opened(path, tmp_path / "scratch", orientation=asked)
        assert (source.orientation, source.orientation_from) == (asked, "request")
        np.testing.assert_array_equal(source.values.rows(1, 5).toarray(), values("raw").T[1:5])


def test_genes_are_joined_in_the_order_of_the_first(tmp_path: Path) -> None:
    x = values("raw")
    first, second = adata(sparse.csr_matrix(x))[:, :5].copy(), adata(sparse.csr_matrix(x))[:, ::-1][:, :4].copy()
    first.write_h5ad(tmp_path / "liver.h5ad")
    second.write_h5ad(tmp_path / "lung.h5ad")
    given = [tmp_path / "liver.h5ad", tmp_path / "lung.h5ad"]
    inner, outer = opened(given, tmp_path), opened(given, tmp_path, join="outer")
    assert list(inner.var.index) == GENES[3:5]
    np.testing.assert_array_equal(inner.values.rows(9, 15).toarray(), np.vstack([x[9:], x[:3]])[:, 3:5])
    assert list(outer.var.index) == [*GENES[:5], *GENES[:4:-1]]
    assert not outer.values.rows(N, 2 * N).toarray()[:, :3].any()
    np.testing.assert_array_equal(outer.values.rows(N, 2 * N).toarray()[:, 5:], x[:, :4:-1])
    assert list(outer.var["symbol"]) == [gene.lower() for gene in outer.var.index]
    for source in (inner, outer):
        assert list(source.obs["source"]) == ["liver"] * N + ["lung"] * N
        assert source.obs.index.is_unique
        assert list(source.obs["batch"]) == list("aabb" * 6)
    assert inner.notes == ("2 sources of up to 5 genes joined: 2 genes in all of them",)


def test_sources_of_the_same_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    given = []
    for donor in ("d1", "d2"):
        (tmp_path / donor / "outs").mkdir(parents=True)
        given.append(tenx_v3(tmp_path / donor / "outs" / "filtered.h5", values("raw")))
    assert list(opened(given, tmp_path).obs["source"].unique()) == ["d1/outs/filtered", "d2/outs/filtered"]


def test_counts_of_some_sources_only_are_left_out(tmp_path: Path) -> None:
    cells, more = adata(sparse.csr_matrix(values("log"))), adata(sparse.csr_matrix(values("log")))
    cells.layers["counts"] = sparse.csr_matrix(values("raw"))
    assert opened([cells, more], tmp_path).counts is None
    assert "raw counts are left out" in opened([cells, more], tmp_path).notes[-1]
    more.layers["counts"] = cells.layers["counts"]
    both = opened([cells, more], tmp_path).counts
    assert both is not None
    np.testing.assert_array_equal(both.rows(N, N + 3).toarray(), values("raw")[:3])


def test_what_was_turned_is_found_again_unless_the_file_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, turned = table(tmp_path / "m.csv", values("raw"), "genes"), []
    spread = by_cells._spread
    monkeypatch.setattr(by_cells, "_spread", lambda *arguments: turned.append(1) or spread(*arguments))
    for _ in range(2):
        assert content(opened(path, tmp_path / "scratch")) == expected(values("raw"), GENES)
    assert len(turned) == 1
    finished = next((tmp_path / "scratch").rglob("turned.json"))
    finished.unlink()  # as a killed job leaves it: entries, but not all
    assert content(opened(path, tmp_path / "scratch")) == expected(values("raw"), GENES)
    table(path, values("log"), "genes")
    assert content(opened(path, tmp_path / "scratch")) == expected(values("log"), GENES)
    assert len(turned) == 3


def test_turning_holds_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read of the file and no file of the turned matrix is larger than a part; the matrix has 20 of them."""
    monkeypatch.setattr(stored, "PART", 64)
    monkeypatch.setattr(by_cells, "PART", 64)
    x: Any = sparse.random(200, 64, density=0.1, format="csc", dtype=np.float32, random_state=0)
    path = tmp_path / "m.h5ad"
    ad.AnnData(x).write_h5ad(path)
    read: list[int] = []
    plain = h5py.Dataset.__getitem__

    def counting(self: h5py.Dataset, key: Any, **options: Any) -> Any:
        found = plain(self, key, **options)
        if self.name in ("/X/data", "/X/indices"):
            read.append(len(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    source = opened(path, tmp_path / "scratch")
    assert len(read) == 2 * -(-x.nnz // 64)
    assert max(read) == 64
    sizes = [file.stat().st_size for file in (tmp_path / "scratch").rglob("*.entries")]
    assert (sum(sizes), len(sizes)) == (x.nnz * by_cells.ENTRY.itemsize, 200 // source.block_cells)
    np.testing.assert_array_equal(source.values.rows(3, 200).toarray(), x.toarray()[3:])
    assert len(read) == 2 * -(-x.nnz // 64)


def test_text_is_read_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfile, "BLOCK", 200)
    lengths: list[int] = []
    parsed = pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda text, **o: lengths.append(len(text.getvalue())) or parsed(text, **o))
    assert content(opened(table(tmp_path / "m.csv", values("raw"), "genes"), tmp_path)) == expected(
        values("raw"), GENES
    )
    assert len(lengths) > 1
    assert max(lengths) < 300


def test_a_loom_file_is_read_by_columns_without_a_copy(tmp_path: Path) -> None:
    source = opened(loom(tmp_path / "m.loom", values("raw")), tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
    assert source.block_cells == N


def test_a_full_disk_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(by_cells, "_spread", full)
    with pytest.raises(JobError, match=r"No space left on device.*free some space"):
        opened(table(tmp_path / "m.csv", values("raw"), "genes"), tmp_path / "scratch")


def test_a_file_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    for path in (h5ad(sparse.csr_matrix(values("raw")), tmp_path / "m.h5ad"), loom(tmp_path / "m.loom", values("raw"))):
        source = opened(path, tmp_path)
        path.touch()
        with pytest.raises(InputError, match="has changed since it was opened"):
            source.values.rows(0, 2)


def h5(path: Path, **members: Any) -> Path:
    with h5py.File(path, "w") as root:
        for name, member in members.items():
            root[name.replace("__", "/")] = member
    return path


def without(path: Path, name: str) -> Path:
    with h5py.File(path, "r+") as root:
        del root[name]
    return path


def changed(path: Path, name: str, member: Any) -> Path:
    with h5py.File(path, "r+") as root:
        del root[name]
        root[name] = member
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def renamed(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def edited(path: Path, name: str, change: Callable[[str], str]) -> Path:
    (path / name).write_text(change((path / name).read_text()))
    return path


def to_hdf(path: Path, frame: pd.DataFrame, **options: Any) -> Path:
    frame.to_hdf(path, key="rpkm", mode="w", **options)
    return path


def mixed() -> pd.DataFrame:
    return pd.DataFrame({"CTSH": [1.0, 2], "IL1B": [1, 2]}, index=["c1", "c2"])


def unnamed(path: Path) -> Path:
    xr.Dataset({"counts": (("cell", "gene"), values("raw"))}).to_zarr(path, zarr_format=3, consolidated=False)
    return path


def packed(path: Path) -> Path:
    xarray(path, values("raw"), ("cell", "gene"), 2)
    zarr.open_group(str(path), mode="r+")["counts"].attrs["scale_factor"] = 0.1
    return path


def two_arrays(path: Path) -> Path:
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    for name in ("a", "b"):
        root[name] = values("raw")
    return path


def other_genes(path: Path) -> list[Any]:
    second = adata(sparse.csr_matrix(values("raw")))
    second.var_names = IDS
    return [adata(sparse.csr_matrix(values("raw"))), second]


RAW = values("raw")
BAD: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "h5ad: indices out of range": (
        lambda d: changed(h5ad(sparse.csr_matrix(RAW), d / "m.h5ad"), "X/indices", np.full(np.count_nonzero(RAW), 99)),
        {}, "has an entry at place 99 of a line of 7",
    ),
    "h5ad: fewer values than indices": (
        lambda d: changed(h5ad(sparse.csr_matrix(RAW), d / "m.h5ad"), "X/data", np.ones(3, "f4")), {}, "do not fit",
    ),
    "h5ad: no indptr": (
        lambda d: without(h5ad(sparse.csr_matrix(RAW), d / "m.h5ad"), "X/indptr"), {}, "has no 'indptr'",
    ),
    "h5ad: text as X": (lambda d: changed(h5ad(RAW, d / "m.h5ad"), "X", np.array([[b"a"]])), {}, "matrix of numbers"),
    "h5ad: another shape": (lambda d: changed(h5ad(RAW, d / "m.h5ad"), "X", RAW[:5]), {}, "it is damaged"),
    "h5ad: a key": (lambda d: h5ad(RAW, d / "m.h5ad"), {"key": "rpkm"}, "has no 'rpkm'"),
    "10x: cut off": (lambda d: cut(tenx_v3(d / "m.h5", RAW)), {}, "cannot be read"),
    "10x: no barcodes": (lambda d: without(tenx_v3(d / "m.h5", RAW), "matrix/barcodes"), {}, "has no 'barcodes'"),
    "10x: no features": (lambda d: without(tenx_v3(d / "m.h5", RAW), "matrix/features"), {}, "has no 'genes'"),
    "10x: fewer barcodes": (
        lambda d: changed(tenx_v3(d / "m.h5", RAW), "matrix/barcodes", np.array(CELLS[:5], "S")), {}, "5 are named",
    ),
    "10x: names of another length": (
        lambda d: changed(tenx_v3(d / "m.h5", RAW), "matrix/features/name", np.array(GENES[:2], "S")),
        {}, "different lengths",
    ),
    "10x: pointers of another length": (
        lambda d: changed(tenx_v3(d / "m.h5", RAW), "matrix/indptr", np.arange(4)), {}, "do not fit each other",
    ),
    "10x: several genomes": (
        lambda d: tenx_v2(d / "m.h5", RAW, ("GRCh38", "mm10")), {}, "has the genomes GRCh38, mm10, and no --key",
    ),
    "10x: no such genome": (lambda d: tenx_v2(d / "m.h5", RAW), {"key": "mm10"}, "the genomes GRCh38, and no 'mm10'"),
    "10x 3: no such genome": (lambda d: tenx_v3(d / "m.h5", RAW), {"key": "mm10"}, "no genome 'mm10', but GRCh38"),
    "10x: a layer": (lambda d: tenx_v3(d / "m.h5", RAW), {"layer": "spliced"}, "has no layer 'spliced'"),
    "mtx: cut off": (
        lambda d: edited(
            mtx(d / "m", RAW, version=3, zipped=False), "matrix.mtx", lambda t: t[: t.rindex("\n", 0, -80)]
        ),
        {}, "announces 56 entries and has"),
    "mtx: outside": (
        lambda d: edited(mtx(d / "m", RAW, version=3, zipped=False), "matrix.mtx", lambda t: t + "9 9 9\n"),
        {}, "entry 57 lies in row 9, column 9 of a matrix of 7 × 12",
    ),
    "mtx: text": (
        lambda d: edited(mtx(d / "m", RAW, version=3, zipped=False), "matrix.mtx", lambda t: t + "1 1 high\n"),
        {}, "not a row, a column and a number",
    ),
    "mtx: no banner": (lambda d: edited(mtx(d / "m", RAW, version=3, zipped=False), "matrix.mtx", lambda t: t[2:]),
        {}, "expected '%%MatrixMarket"),
    "mtx: no sizes": (
        lambda d: edited(mtx(d / "m", RAW, version=3, zipped=False), "matrix.mtx", lambda t: t.splitlines()[0]),
        {}, "no line with its rows",
    ),
    "mtx: fewer genes": (
        lambda d: edited(mtx(d / "m", RAW, version=3, zipped=False), "features.tsv", lambda t: t.split("\n")[0]),
        {}, "names 1 genes",
    ),
    "mtx: no list of cells": (
        lambda d: (mtx(d / "m", RAW, version=3, zipped=False) / "barcodes.tsv").unlink() or d / "m", {},
        "no list of its cells beside it: expected barcodes.tsv",
    ),
    "mtx: empty list": (
        lambda d: edited(mtx(d / "m", RAW, version=3, zipped=False), "barcodes.tsv", lambda t: ""), {}, "is empty",
    ),
    "mtx: gz that is not gz": (
        lambda d: renamed(mtx(d / "m", RAW, version=3, zipped=False) / "matrix.mtx", "matrix.mtx.gz").parent,
        {}, "rename it to matrix.mtx",
    ),
    "mtx: two matrices": (
        lambda d: written(mtx(d / "m", RAW, version=3, zipped=False) / "matrix.mtx.gz", "").parent, {}, "holds several",
    ),
    "empty folder": (lambda d: folder(d / "m"), {}, "is a folder"),
    "loom: cut off": (lambda d: cut(loom(d / "m.loom", RAW)), {}, "cannot be read"),
    "loom: no matrix": (lambda d: without(loom(d / "m.loom", RAW), "matrix"), {}, "has no array 'matrix'"),
    "loom: no names": (
        lambda d: without(loom(d / "m.loom", RAW), "col_attrs/CellID"), {}, "col_attrs has no 'CellID' but batch",
    ),
    "loom: names of another length": (
        lambda d: changed(loom(d / "m.loom", RAW), "row_attrs/Gene", np.array(GENES[:3], "S")), {}, "shape (3,)",
    ),
    "loom: no such layer": (lambda d: loom(d / "m.loom", RAW), {"layer": "spliced"}, "no layer 'spliced'; it has none"),
    "loom: text as matrix": (
        lambda d: changed(loom(d / "m.loom", RAW), "matrix", np.array([[b"a"]])), {}, "no matrix of numbers",
    ),
    "pandas: cut off": (lambda d: cut(hdf(d / "m.h5", RAW)), {}, "cannot be read"),
    "pandas: no such key": (lambda d: hdf(d / "m.h5", RAW), {"key": "counts"}, "no table 'counts', but rpkm"),
    "pandas: several keys": (
        lambda d: hdf(hdf(d / "m.h5", RAW), RAW, key="log"), {}, "several tables, log, rpkm: name one of them",
    ),
    "pandas: table format": (
        lambda d: to_hdf(d / "m.h5", pd.DataFrame(RAW, CELLS, GENES), format="table"), {}, "format 'frame_table'",
    ),
    "pandas: columns of two types": (lambda d: to_hdf(d / "m.h5", mixed()), {}, "have 2 types"),
    "pandas: values gone": (lambda d: without(hdf(d / "m.h5", RAW), "rpkm/block0_values"), {}, "no 'block0_values'"),
    "pandas: fewer values": (
        lambda d: changed(hdf(d / "m.h5", RAW), "rpkm/block0_values", RAW[:3]), {}, "12 × 7 names",
    ),
    "pandas: two levels": (
        lambda d: to_hdf(d / "m.h5", pd.DataFrame(RAW, pd.MultiIndex.from_product([[1], CELLS]), GENES)),
        {}, "several levels",
    ),
    "xarray: no names": (lambda d: unnamed(d / "m.zarr"), {}, "nothing names the 12 along 'cell'"),
    "xarray: several arrays": (lambda d: two_arrays(d / "m.zarr"), {}, "several arrays, a, b"),
    "xarray: no such array": (lambda d: two_arrays(d / "m.zarr"), {"key": "c"}, "no array 'c', but a, b"),
    "xarray: no dimension names": (lambda d: two_arrays(d / "m.zarr"), {"key": "a"}, "without names"),
    "xarray: packed": (lambda d: packed(d / "m.zarr"), {}, "scale_factor"),
    "xarray: a layer": (
        lambda d: xarray(d / "m.zarr", RAW, ("cell", "gene"), 3), {"layer": "spliced"}, "no layer 'spliced'",
    ),
    "h5 of another kind": (lambda d: h5(d / "m.h5", images=np.ones(3)), {}, "holds images: neither"),
    "h5 that is none": (lambda d: written(d / "m.h5", "text"), {}, "cannot be read"),
    "csv that is HDF5": (lambda d: renamed(h5(d / "m.h5", a=np.ones(3)), "m.csv"), {}, "an HDF5 file: rename it"),
    "csv that is Excel": (lambda d: written(d / "m.csv", b"PK\x03\x04rest"), {}, "an Excel or zip file"),
    "csv: cut off in a line": (lambda d: cut(table(d / "m.csv", RAW, "genes"), 0.9), {}, "unequal length"),
    "csv: NaN": (lambda d: written(d / "m.csv", ",c1,c2\ng1,1,NaN\ng2,3,4\n"), {}, "'NaN' in row 'g1', column 'c2'"),
    "csv: decimal commas": (lambda d: written(d / "m.csv", ";c1;c2\ng1;1,5;2\ng2;3;4\n"), {}, "'1,5' in row 'g1'"),
    "URL of nothing": (lambda d: f"memory://{d.name}/none.h5ad", {}, "does not exist: check the URL"),
    "URL of no known kind": (lambda d: "gopher://a/m.h5ad", {}, "gopher"),
    "pattern of nothing": (lambda d: str(d / "*.h5ad"), {}, "fits no file"),
    "empty list": (lambda d: [], {}, "list of sources is empty"),
    "twice the same": (lambda d: [str(h5ad(RAW, d / "m.h5ad"))] * 2, {}, "given more than once"),
    "no gene in common": (other_genes, {}, "have no gene in common: the first has CTSH, IL1B, RPL23A, the other ENSG"),
    "unknown join": (lambda d: [adata(RAW)], {"join": "left"}, "join 'left' is unknown"),
    "an array in memory": (lambda d: RAW, {}, "of the kind 'ndarray' is unknown"),
    "a key of an AnnData": (lambda d: adata(RAW), {"key": "rpkm"}, "has no --key"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, tmp_path: Path) -> None:
    make, options, message = BAD[case]
    given = make(tmp_path)
    with pytest.raises(InputError) as refused:
        opened(given, tmp_path / "scratch", **options).values.rows(0, 2)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root, as whom tests may run, may read anything
    with pytest.raises(InputError, match="may not be read"):
        opened(h5ad(RAW, tmp_path / "m.h5ad"), tmp_path)
