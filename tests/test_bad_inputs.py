"""What users give by mistake: each is one line, the right exit status, no traceback, and nothing half-made.

Every row is a real file and the real command. What is no mistake but surprising goes through, and is said.
"""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from typed import after_first_word, run_command

SYMBOLS = ["ACTB", "GAPDH", "CD4", "CD8A", "MS4A1", "GATA3"]
BARCODES = [f"ACGT{a}{b}GTACGT-1" for a in "ACGT" for b in "ACGT"]
COUNTS = np.random.default_rng(0).poisson(2.0, (16, 6)).astype(np.float32) + np.eye(16, 6, dtype=np.float32)


def cells(x: Any = COUNTS, genes: Any = None, names: Any = None) -> ad.AnnData:
    """Sixteen cells × six genes of counts."""
    n_cells, n_genes = x.shape
    obs = pd.DataFrame({"cell_type": pd.Categorical(["B cell", "dendritic"] * 8)[:n_cells]})
    obs.index = pd.Index(BARCODES[:n_cells] if names is None else names, dtype=object)
    var = pd.DataFrame(index=pd.Index(SYMBOLS[:n_genes] if genes is None else genes, dtype=object))
    return ad.AnnData(sparse.csr_matrix(x), obs=obs, var=var)


def h5ad(x: Any = COUNTS, **names: Any) -> Callable[[Path], None]:
    return lambda path: cells(x, **names).write_h5ad(path)


def changed(row: int, column: int, value: float) -> Any:
    """The counts but for one of them."""
    x = COUNTS.astype(np.float64)
    x[row, column] = value
    return x


def edited(edit: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    """An .h5ad that was changed after anndata wrote it."""

    def make(path: Path) -> None:
        cells().write_h5ad(path)
        with h5py.File(path, "r+") as file:
            edit(file)

    return make


def cut(share: float) -> Callable[[Path], None]:
    """An .h5ad of which the end is missing, as after a download that broke off."""

    def make(path: Path) -> None:
        cells().write_h5ad(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return make


def replaced(name: str, value: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        attributes = dict(file[name].attrs) if name in file else {}
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value
            file[name].attrs.update(attributes)

    return edit


def with_layer(name: str, x: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        held = cells()
        held.layers[name] = sparse.csr_matrix(x)
        held.write_h5ad(path)

    return make


def text(content: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content.encode(encoding))


def table(x: Any = COUNTS, genes: Any = None, names: Any = None, end: str = "\n", sep: str = ",") -> str:
    """Genes × cells as text, as BEELINE has it."""
    columns = SYMBOLS if genes is None else genes
    frame = pd.DataFrame(np.asarray(x).T, index=columns, columns=BARCODES if names is None else names)
    return frame.to_csv(sep=sep, lineterminator=end)


def categorical(file: h5py.File) -> None:
    """An X that is a column of categories."""
    del file["X"]
    file.copy("obs/cell_type", "X")


@dataclass
class Bad:
    """A mistake.

    Attributes
    ----------
    name, make
        The file, and who writes it; None for no file.
    words
        What the message has to say.
    options
        Of the command.
    beside
        Other files, by name.
    """

    name: str
    make: Callable[[Path], Any] | None
    words: list[str]
    options: list[str] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)


NOT_LOG = np.log1p(COUNTS)

BAD: dict[str, Bad] = {
    # files
    "no file": Bad("m.h5ad", None, ["m.h5ad", "does not exist"]),
    "unknown suffix": Bad("m.xlsx", text("x"), ["m.xlsx", ".h5ad"]),
    "a folder named h5ad": Bad("m.h5ad", Path.mkdir, ["m.h5ad", "folder"]),
    "a file named zarr": Bad("m.zarr", text("x"), ["m.zarr", "file"]),
    "an empty file": Bad("m.h5ad", text(""), ["m.h5ad", "cannot be read"]),
    "a web page": Bad("m.h5ad", text("<html>404 Not Found</html>"), ["m.h5ad", "cannot be read"]),
    "a gzipped h5ad": Bad("m.h5ad", lambda p: p.write_bytes(gzip.compress(b"x" * 999)), ["m.h5ad", "cannot be read"]),
    "cut in the middle": Bad("m.h5ad", cut(0.5), ["m.h5ad", "cannot be read"]),
    "cut near the end": Bad("m.h5ad", cut(0.97), ["m.h5ad", "cannot be read"]),
    "gz that is none": Bad("m.csv.gz", text(table()), ["m.csv.gz"]),
    "gz that is cut": Bad("m.csv.gz", lambda p: p.write_bytes(gzip.compress(table().encode())[:-40]), ["m.csv.gz"]),
    "an empty table": Bad("m.csv", text(""), ["m.csv"]),
    "only a header": Bad("m.csv", text(table().splitlines()[0] + "\n"), ["m.csv"]),
    "words in a table": Bad("m.csv", text(table().replace("\nGAPDH,", "\nGAPDH,many")), ["m.csv", "many"]),
    "a ragged table": Bad("m.csv", text(table().replace("\nGAPDH,", "\nGAPDH,1,1,")), ["m.csv"]),
    "UTF-16": Bad("m.csv", text(table(), "utf-16"), ["m.csv"]),
    # HDF5 that is no AnnData
    "other HDF5": Bad("m.h5ad", edited(lambda f: [f.pop(n) for n in ("X", "obs", "var")]), ["no AnnData"]),
    "no X": Bad("m.h5ad", edited(replaced("X", None)), ["'X'"]),
    "no obs": Bad("m.h5ad", edited(replaced("obs", None)), ["'obs'"]),
    "no var": Bad("m.h5ad", edited(replaced("var", None)), ["'var'"]),
    "X of text": Bad("m.h5ad", edited(replaced("X", np.array([[b"a"] * 6] * 16))), ["X is neither"]),
    "categorical X": Bad("m.h5ad", edited(categorical), ["X is neither"]),
    "X data of text": Bad("m.h5ad", edited(replaced("X/data", np.array([b"a"] * 9))), ["X is neither"]),
    "X of another shape": Bad("m.h5ad", edited(lambda f: f["X"].attrs.modify("shape", np.array([16, 5]))), ["m.h5ad"]),
    "X without its pointers": Bad("m.h5ad", edited(replaced("X/indptr", None)), ["m.h5ad"]),
    "X with too few indices": Bad("m.h5ad", edited(replaced("X/indices", np.zeros(5, np.int32))), ["m.h5ad"]),
    "X with a gene that is none": Bad("m.h5ad", edited(replaced("X/indices", np.full(96, 77, np.int32))), ["damaged"]),
    # values
    "NaN": Bad("m.h5ad", h5ad(changed(3, 2, np.nan)), ["NaN", "CD4"]),
    "infinite": Bad("m.h5ad", h5ad(changed(3, 2, np.inf)), ["infinite", "CD4"]),
    "beyond float32": Bad("m.h5ad", h5ad(changed(3, 2, 1e300)), ["infinite", "CD4"]),
    "NaN in a table": Bad("m.csv", text(table(changed(3, 2, np.nan))), ["m.csv"]),
    "negative counts": Bad("m.h5ad", h5ad(changed(3, 2, -1)), ["CD4", "negative value -1", "--layer"]),
    "scaled values": Bad("m.h5ad", h5ad((COUNTS - COUNTS.mean(0)) / COUNTS.std(0)), ["negative", "scaled"]),
    "huge whole numbers": Bad("m.h5ad", h5ad(changed(3, 2, 2**40)), ["CD4", "1.1e+12", "2^24"]),
    "an identifier among the genes": Bad("m.csv", text(table(changed(3, 2, 20261125))), ["CD4", "2^24"]),
    "all zero": Bad("m.h5ad", h5ad(COUNTS * 0), ["0 of 16 cells and 0 of 6 genes are left"]),
    "one cell expresses anything": Bad("m.h5ad", h5ad(COUNTS * np.eye(16, 1)), ["1 of 16 cells"]),
    # names and shapes
    "0 cells": Bad("m.h5ad", h5ad(COUNTS[:0]), ["0 cells × 6 genes"]),
    "0 genes": Bad("m.h5ad", h5ad(COUNTS[:, :0]), ["16 cells × 0 genes"]),
    "1 cell": Bad("m.h5ad", h5ad(COUNTS[:1]), ["1 cells × 6 genes"]),
    "genes of one name": Bad("m.csv", text(table(genes=[*SYMBOLS[:5], "CD4"])), ["more than once", "CD4"]),
    "a gene without a name": Bad("m.h5ad", h5ad(genes=[*SYMBOLS[:5], ""]), ["gene 6 has no name"]),
    "transposed": Bad("m.h5ad", h5ad(COUNTS[:6], genes=BARCODES[:6], names=SYMBOLS), ["transposed", "--orientation"]),
    "wrongly turned": Bad("m.h5ad", h5ad(COUNTS[:, :1]), ["1 cells × 16 genes"], ["--orientation", "genes-by-cells"]),
    # options
    "missing layer": Bad("m.h5ad", with_layer("counts", COUNTS), ["no layer 'spliced'"], ["--layer", "spliced"]),
    "a layer of a table": Bad("m.csv", text(table()), ["no layer 'counts'"], ["--layer", "counts"]),
    "no raw": Bad("m.h5ad", h5ad(), ["no layer 'raw'"], ["--layer", "raw"]),
    "a bad layer": Bad("m.h5ad", with_layer("scaled", COUNTS - 2), ["negative"], ["--layer", "scaled"]),
    "logarithms of logarithms": Bad("m.h5ad", h5ad(NOT_LOG), ["logarithms already"], ["--preset", "scanpy"]),
    "unknown preset": Bad("m.h5ad", h5ad(), ["--preset", "seurat"], ["--preset", "seurat"]),
    "minimum 0": Bad("m.h5ad", h5ad(), ["min_genes is 0"], ["--min-genes", "0"]),
    "filters too strict": Bad("m.h5ad", h5ad(), ["min_cells=17"], ["--min-cells", "17"]),
    "no condition": Bad("m.h5ad", h5ad(), ["is no condition", "cell_type"], ["--cells", "cell_type = 'B cell'"]),
    "unknown column": Bad("m.h5ad", h5ad(), ["no column 'celltype'", "cell_type"], ["--cells", "celltype == 'B'"]),
    "code as condition": Bad("m.h5ad", h5ad(), ["may only compare"], ["--cells", "cell_type.map(print) == 1"]),
    "no cell meets it": Bad("m.h5ad", h5ad(), ["none of the 16 cells", "B cell"], ["--cells", "cell_type == 'NK'"]),
    "no list of genes": Bad("m.h5ad", h5ad(), ["genes.txt", "no such file"], ["--genes", "genes.txt"]),
    "a list of other genes": Bad(
        "m.h5ad", h5ad(), ["genes.txt", "Actb"], ["--genes", "genes.txt"], {"genes.txt": "Actb\nGapdh\nCd4\n"}
    ),
    "a list of one gene": Bad("m.h5ad", h5ad(), ["1 of the 1 genes"], ["--genes", "one.txt"], {"one.txt": "CD4\n"}),
    "variable genes": Bad("m.h5ad", h5ad(), ["highly_variable is 1"], ["--highly-variable", "1"]),
    "a map of other genes": Bad(
        "m.h5ad", h5ad(), ["map.tsv", "ACTB"], ["--gene-map", "map.tsv"], {"map.tsv": "920\tCd4\n60\tActb\n"}
    ),
    "a map of three columns": Bad(
        "m.h5ad", h5ad(), ["map.tsv has 3 columns"], ["--gene-map", "map.tsv"], {"map.tsv": "1\tA\tB\n"}
    ),
    "memory": Bad("m.h5ad", h5ad(), ["--memory-limit"], ["--memory-limit", "200MB", "--scheduler", "synchronous"]),
    "memory in words": Bad("m.h5ad", h5ad(), ["memory limit 'plenty'"], ["--memory-limit", "plenty"]),
    "no scheduler": Bad("m.h5ad", h5ad(), ["scheduler 'slurmish'"], ["--scheduler", "slurmish"]),
}


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file of a folder with its bytes, and every folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def without_stages(err: str) -> list[str]:
    """Lines of standard error, but for the stage of which a terminal shows a bar."""
    return [line for line in err.splitlines() if line != "turning to cells"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # anndata's, as the bad file is written
@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = BAD[name]
    monkeypatch.chdir(tmp_path)
    if bad.make is not None:
        bad.make(Path(bad.name))
    for file, content in bad.beside.items():
        Path(file).write_text(content)
    before = contents(tmp_path)
    capfd.readouterr()
    status = run_command("ingest", bad.name, "e.zarr", *bad.options)
    out, err = capfd.readouterr()
    lines = without_stages(err)
    assert (status, after_first_word(out), len(lines)) == (2, "", 1), (status, out, err)
    assert lines[0].startswith("pairscape: ")
    assert "Traceback" not in err
    assert [word for word in bad.words if word not in err] == [], err
    assert contents(tmp_path) == before


# ── what goes through, and is said ───────────────────────────────────────────────────────────────────────────────────


def twice_named(path: Path) -> None:
    """Cells of two samples that share barcodes, as anndata's concat leaves them."""
    h5ad()(path)
    with h5py.File(path, "r+") as file:
        name = file["obs"].attrs["_index"]
        replaced(f"obs/{name}", [*BARCODES[:8], *BARCODES[:8]])(file)


EMPTY = COUNTS * (np.arange(16) != 4)[:, None] * (np.arange(6) != 2)
MIXED = ["ENSG00000075624", "ENSG00000111640", "ENSG00000010610", "CD8A", "MS4A1", "GATA3"]

SAID: dict[str, tuple[str, Callable[[Path], Any], list[str], list[str]]] = {
    "an empty cell and an empty gene": ("m.h5ad", h5ad(EMPTY), [], ["dropped by the filters: 1 cells and 1 genes"]),
    "duplicate barcodes": ("m.h5ad", twice_named, [], ["8 cells had the name of another"]),
    "a byte order mark": ("m.csv", text(table(), "utf-8-sig"), [], ["genes × cells", "16 cells × 6 genes"]),
    "lines that end as in DOS": ("m.csv", text(table(end="\r\n")), [], ["genes × cells", "16 cells × 6 genes"]),
    "lines that end in tabs": ("m.tsv", text(table(sep="\t")), [], ["genes × cells", "16 cells × 6 genes"]),
    "cells × genes": ("m.csv", text(pd.read_csv(StringIO(table()), index_col=0).T.to_csv()), [], ["cells × genes"]),
    "names that tell nothing": (
        "m.csv", text(table(genes=list("uvwxyz"), names=[f"s{i}" for i in range(16)])), [], ["assumed, since"],
    ),
    "counts as integers": ("m.h5ad", h5ad(COUNTS.astype(np.int64)), [], ["raw counts, 1 to", "preset scanpy"]),
    "counts in halves": ("m.h5ad", h5ad(COUNTS * 20.5), [], ["values: normalised", "preset log1p"]),
    "halves under preset scanpy": ("m.h5ad", h5ad(COUNTS * 20.5), ["--preset", "scanpy"], ["scales them again"]),
    "counts as they are": ("m.h5ad", h5ad(), ["--preset", "none"], ["warning: raw counts are stored as expression"]),
    "logarithms": ("m.h5ad", h5ad(NOT_LOG), [], ["taken for logarithms: told from the largest value", "preset none"]),
    "counts that are none beside logarithms": (
        "m.h5ad", lambda path: beside(path, NOT_LOG, COUNTS * 0.5), [], ["counts beside the values are left out"],
    ),
    "Ensembl ids among symbols": ("m.h5ad", h5ad(genes=MIXED), [], ["3 Ensembl ids", "3 symbols"]),
    "dates among symbols": ("m.h5ad", h5ad(genes=["1-Mar", "2-Sep", *SYMBOLS[:4]]), [], ["1-Mar", "MARCH"]),
    "a list with a stranger": ("m.h5ad", h5ad(), ["--genes", "genes.txt"], ["2 of 3 genes", "not in it: NOTHERE"]),
}  # fmt: skip


def beside(path: Path, x: Any, counts: Any) -> None:
    held = cells(x)
    held.layers["counts"] = sparse.csr_matrix(counts)
    held.write_h5ad(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SAID)
def test_what_is_no_mistake_goes_through_and_is_said(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, make, options, words = SAID[name]
    monkeypatch.chdir(tmp_path)
    make(Path(file))
    Path("genes.txt").write_text("CD4\nACTB\nNOTHERE\n")
    capfd.readouterr()
    for more in (["--dry-run"], []):
        assert run_command("ingest", file, "e.zarr", *options, *more) == 0
        out, err = capfd.readouterr()
        assert without_stages(err) == []
        assert [word for word in words if word not in out] == [], out
        assert Path("e.zarr").exists() == (not more)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["e.zarr", "genes.txt", file])
    store = ad.read_zarr("e.zarr")
    assert store.obs_names.is_unique
    assert min(store.X.sum(0).min(), store.X.sum(1).min()) > 0


# ── the machine refuses ──────────────────────────────────────────────────────────────────────────────────────────────

FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = ["pairscape", "ingest", *sys.argv[2:]]
import pairscape
pairscape.main()
"""


def test_a_full_disk_is_a_failure_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    """No file may grow beyond some bytes, as on a disk that fills while the shards are written."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (600, 400)).astype(np.float32)
    held = ad.AnnData(sparse.csr_matrix(counts))
    held.write_h5ad(tmp_path / "m.h5ad")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}

    def run(limit: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-B", "-c", FULL, str(limit), "m.h5ad", "e.zarr"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    full = run(60_000)
    assert full.returncode == 1, full.stderr
    assert len(full.stderr.splitlines()) == 1
    assert all(word in full.stderr for word in ("cannot be written", "File too large", "what is finished is kept"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".e.zarr.wip", "m.h5ad"]
    assert run(10**9).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.zarr", "m.h5ad"]
    np.testing.assert_array_equal(ad.read_zarr(tmp_path / "e.zarr").layers["counts"].toarray(), counts)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    h5ad()(tmp_path / "m.h5ad")
    (tmp_path / "m.h5ad").chmod(0)
    assert run_command("ingest", tmp_path / "m.h5ad", tmp_path / "e.zarr") == 2
    assert "ermission" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5ad"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    h5ad()(tmp_path / "m.h5ad")
    (tmp_path / "mine").mkdir(mode=0o500)
    assert run_command("ingest", tmp_path / "m.h5ad", tmp_path / "mine" / "e.zarr") == 1
    assert "cannot be written" in capfd.readouterr().err
