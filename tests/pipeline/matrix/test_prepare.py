"""Values that are given straight to a job, in any format, of any kind, with what is no gene among them.

The reference is always scanpy's on the genes and cells that should be left. A job agrees with it, or refuses.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.io
from numpy.typing import NDArray
from scipy import sparse

import pairscape
from conftest import counted
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.matrix import open as open_module
from pairscape.pipeline.matrix.alike import refuse_unlike
from pairscape.pipeline.matrix.ingest import ingest
from pairscape.pipeline.matrix.prepare import prepared
from pairscape.pipeline.options import Compute, PairSource

HERE = Compute("synchronous")
N_CELLS, N_GENES = 60, 40
COUNTS = counted(N_CELLS, N_GENES, seed=3)
GENES = [f"GENE{i}" for i in range(N_GENES)]
CELLS = [f"cell_{i}" for i in range(N_CELLS)]
RNG = np.random.default_rng(5)


def frame(x: NDArray[Any], names: list[str] = GENES) -> pd.DataFrame:
    return pd.DataFrame(x, index=pd.Index(CELLS), columns=pd.Index(names))


def annotated(table: pd.DataFrame, **var: Any) -> ad.AnnData:
    x = sparse.csr_matrix(table.to_numpy(np.float32))
    return ad.AnnData(x, obs=pd.DataFrame(index=table.index), var=pd.DataFrame(var, index=table.columns))


# ── what files hold: kinds of values, what is no gene among them, formats ────────────────────────────────────────────


def scaled(table: pd.DataFrame, total: float) -> pd.DataFrame:
    return table.div(table.sum(axis=1), axis=0) * total


KINDS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "counts": lambda table: table,
    "10,000 per cell": lambda table: scaled(table, 1e4),
    "shares": lambda table: scaled(table, 1.0),
    "logarithms": lambda table: np.log1p(scaled(table, 1e4)),
}
AMONG: dict[str, dict[str, NDArray[Any]]] = {
    "genes alone": {},
    "counters": {name: RNG.integers(900, 90_000, N_CELLS) for name in ("__no_feature", "__ambiguous", "__not_aligned")},
    "spike-ins": {f"ERCC-0000{i}": RNG.poisson(300, N_CELLS) for i in range(2, 6)},
    "antibodies": {f"CD{i}_TotalC": RNG.poisson(800, N_CELLS) for i in range(3, 6)},
    "clusters": {"louvain": RNG.integers(0, 8, N_CELLS), "n_genes": RNG.integers(200, 900, N_CELLS)},
}


def save_zarr(cells: ad.AnnData, path: Path) -> None:
    with ad.settings.override(zarr_write_format=3), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what anndata will do by default some day
        cells.write_zarr(path)


def write_h5ad(table: pd.DataFrame, path: Path) -> Path:
    annotated(table).write_h5ad(path.with_suffix(".h5ad"))
    return path.with_suffix(".h5ad")


def write_zarr(table: pd.DataFrame, path: Path) -> Path:
    save_zarr(annotated(table), path.with_suffix(".zarr"))
    return path.with_suffix(".zarr")


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    table.T.to_csv(path.with_suffix(".csv"))
    return path.with_suffix(".csv")


def write_mtx(table: pd.DataFrame, path: Path) -> Path:
    path.mkdir()
    scipy.io.mmwrite(path / "matrix.mtx", sparse.coo_matrix(table.T.to_numpy(float)))
    (path / "genes.tsv").write_text("".join(f"{name}\t{name}\n" for name in table.columns))
    (path / "barcodes.tsv").write_text("".join(f"{name}\n" for name in table.index))
    return path


def write_loom(table: pd.DataFrame, path: Path) -> Path:
    text = h5py.string_dtype()
    with h5py.File(path.with_suffix(".loom"), "w") as file:
        file["matrix"] = table.T.to_numpy(np.float32)
        file["row_attrs/Gene"] = np.array(table.columns, dtype=text)
        file["col_attrs/CellID"] = np.array(table.index, dtype=text)
        for name in ("layers", "row_graphs", "col_graphs"):
            file.create_group(name)
    return path.with_suffix(".loom")


def write_tenx(table: pd.DataFrame, path: Path) -> Path:
    x, text = sparse.csr_matrix(table.to_numpy(np.float32)), h5py.string_dtype()
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        home = file.create_group("matrix")
        home["data"], home["indices"], home["indptr"] = x.data, x.indices, x.indptr
        home["shape"], home["barcodes"] = np.array(table.T.shape), np.array(table.index, dtype=text)
        for name in ("id", "name"):
            home[f"features/{name}"] = np.array(table.columns, dtype=text)
        home["features/feature_type"] = np.array(["Gene Expression"] * table.shape[1], dtype=text)
    return path.with_suffix(".h5")


FORMATS = (write_h5ad, write_zarr, write_csv, write_mtx, write_loom, write_tenx)


def reference() -> ad.AnnData:
    """What scanpy makes of the counts of the genes alone."""
    cells = annotated(frame(COUNTS))
    sc.pp.filter_genes(cells, min_cells=1)
    sc.pp.filter_cells(cells, min_genes=1)
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    return cells


def assert_is_reference(store: Path) -> None:
    found, wanted = ad.read_zarr(store).to_df(), reference().to_df()
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, check_names=False, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__.removeprefix("write_"))
@pytest.mark.parametrize("among", AMONG)
@pytest.mark.parametrize("kind", KINDS)
def test_ingest_and_jobs_agree_with_scanpy_on_the_genes_or_refuse(
    write: Callable[..., Path], kind: str, among: str, tmp_path: Path, refuses: Any
) -> None:
    said: list[str] = []
    table = KINDS[kind](frame(COUNTS).assign(**AMONG[among]))
    source = write(table, tmp_path / "m")
    if kind != "counts" and among != "genes alone":
        for job in (
            lambda: ingest(source, tmp_path / "e.zarr"),
            lambda: prepared(source, tmp_path / "i.zarr", compute=HERE, say=lambda *_: None),
        ):
            with refuses("the cells were scaled to", "--features all"):
                job()
        return
    ingest(source, tmp_path / "e.zarr", session=Session(say=lambda *lines: said.extend(lines)))
    assert_is_reference(tmp_path / "e.zarr")
    assert ("left out, as no genes or cells: " in "\n".join(said)) == (among != "genes alone")
    told: list[str] = []
    matrix = prepared(source, tmp_path / "i.zarr", compute=HERE, say=lambda *lines: told.extend(lines))
    assert told
    found = matrix.rows(0, matrix.n_cells).toarray()
    place = [matrix.genes.index(gene) for gene in reference().var_names]
    np.testing.assert_allclose(found[found.any(axis=1)][:, place], reference().X.toarray(), rtol=1e-5, atol=1e-5)


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def images_of(path: Path) -> NDArray[np.uint32]:
    images = open_images(path)
    return images.counts(slice(0, images.spec.n_pairs))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw counts as h5ad, and what `ingest` and `heatmaps` make of them."""
    folder = tmp_path_factory.mktemp("given")
    annotated(frame(COUNTS)).write_h5ad(folder / "raw.h5ad")
    pairscape.ingest(folder / "raw.h5ad", folder / "e.zarr", quiet=True)
    heatmaps(folder / "e.zarr", folder / "i.zarr")
    return folder


def heatmaps(matrix: Any, images: Path) -> None:
    pairscape.heatmaps(matrix, images, source=PairSource(all_pairs=True), compute=HERE, quiet=True)


@pytest.mark.parametrize("form", ["h5ad", "AnnData"])
def test_heatmaps_of_raw_counts_are_those_of_the_ingested_store(folder: Path, form: str, tmp_path: Path) -> None:
    given = folder / "raw.h5ad" if form == "h5ad" else ad.read_h5ad(folder / "raw.h5ad")
    heatmaps(given, tmp_path / "i.zarr")
    np.testing.assert_array_equal(images_of(tmp_path / "i.zarr"), images_of(folder / "i.zarr"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i.codes.zarr", "i.expression.zarr", "i.zarr"]


def test_the_store_beside_is_made_once_and_again_for_another_file(folder: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "m.h5ad", tmp_path / "i.zarr"
    source.write_bytes((folder / "raw.h5ad").read_bytes())
    first = prepared(source, out, compute=HERE, say=lambda *_: None)
    made = Path(str(first.path)).stat().st_ino
    assert Path(str(prepared(source, out, compute=HERE, say=lambda *_: None).path)).stat().st_ino == made
    annotated(frame(COUNTS[::-1])).write_h5ad(source)
    again = prepared(source, out, compute=HERE, say=lambda *_: None)
    assert again.content_hash() != first.content_hash() or Path(str(again.path)).stat().st_ino != made


def test_plan_counts_the_pairs_of_the_genes_alone(folder: Path, tmp_path: Path, capfd: Any) -> None:
    table = frame(COUNTS).assign(**AMONG["spike-ins"])
    planned = pairscape.plan(write_h5ad(table, tmp_path / "m"), source=PairSource(all_pairs=True), compute=HERE)
    genes = reference().n_vars
    assert planned["pairs"] == genes * (genes - 1) // 2
    assert "raw counts, scaled to 10,000 per cell, log1p" in capfd.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5ad"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (np.log1p(frame(COUNTS)) - 0.5, ["negative value", "--layer raw"]),
        (np.sqrt(frame(COUNTS)), ["square roots", "--preset none"]),
        (
            frame(np.random.default_rng(7).gamma(1.5, 1.0, COUNTS.shape) * (COUNTS > 0)),
            ["may be corrected counts or logarithms"],
        ),
        (frame(np.where(np.arange(N_CELLS)[:, None] < 30, COUNTS, COUNTS * 0.37)), ["whole numbers and others do not"]),
        (frame(COUNTS * np.nan), ["NaN"]),
    ],
    ids=["scaled", "roots", "either", "mixed", "nan"],
)
def test_what_no_rule_fits_is_refused_before_anything_is_written(
    table: pd.DataFrame, words: list[str], tmp_path: Path, refuses: Any
) -> None:
    source = write_h5ad(table, tmp_path / "m")
    for job in (lambda: heatmaps(source, tmp_path / "i.zarr"), lambda: ingest(source, tmp_path / "e.zarr")):
        with refuses(*words):
            job()
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["m.h5ad"]


def test_a_store_beside_that_is_not_ours_is_left_alone(folder: Path, tmp_path: Path, refuses: Any) -> None:
    own = tmp_path / "i.expression.zarr"
    save_zarr(annotated(frame(COUNTS)), own)
    before = sorted((path, path.stat().st_mtime_ns) for path in own.rglob("*"))
    with refuses("i.expression.zarr exists", "another name"):
        heatmaps(folder / "raw.h5ad", tmp_path / "i.zarr")
    assert sorted((path, path.stat().st_mtime_ns) for path in own.rglob("*")) == before


def test_a_store_of_ours_with_raw_counts_put_in_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    cells = ad.read_zarr(folder / "e.zarr")
    cells.X = cells.layers["counts"].copy()
    save_zarr(cells, tmp_path / "changed.zarr")
    heatmaps(tmp_path / "changed.zarr", tmp_path / "i.zarr")
    np.testing.assert_array_equal(images_of(tmp_path / "i.zarr"), images_of(folder / "i.zarr"))


# ── sources of a join, each by itself ────────────────────────────────────────────────────────────────────────────────

MIXED = [("counts", "logarithms"), ("counts", "10,000 per cell"), ("10,000 per cell", "logarithms"),
         ("shares", "10,000 per cell"), ("logarithms", "shares")]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), MIXED)
def test_sources_of_unlike_values_are_refused_by_name(one: str, other: str, tmp_path: Path, refuses: Any) -> None:
    first, second = (
        write_h5ad(KINDS[one](frame(COUNTS)), tmp_path / "a"),
        write_csv(KINDS[other](frame(COUNTS)), tmp_path / "b"),
    )
    for preset in ("auto", "none"):
        with refuses("a.h5ad holds ", "b.csv ", "would mean different things"):
            ingest([first, second], tmp_path / "e.zarr", preset=preset)


def test_each_source_of_a_join_loses_what_is_no_gene_in_it(tmp_path: Path) -> None:
    spiked = write_h5ad(frame(COUNTS).assign(**AMONG["spike-ins"]), tmp_path / "a")
    summary = ingest([spiked, write_csv(frame(COUNTS), tmp_path / "b")], tmp_path / "e.zarr", join="outer")
    assert any("spike-ins (4: ERCC-00002" in note for note in summary.notes)
    np.testing.assert_allclose(ad.read_zarr(tmp_path / "e.zarr").X[: reference().n_obs].toarray(),
                               reference().X.toarray(), rtol=1e-5, atol=1e-5)  # fmt: skip


# ── overruled, and the rest ──────────────────────────────────────────────────────────────────────────────────────────


def test_all_features_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    source = write_h5ad(frame(COUNTS).assign(**AMONG["antibodies"]), tmp_path / "m")
    summary = ingest(source, tmp_path / "e.zarr", features="all")
    assert summary.genes == reference().n_vars + 3
    assert not any("left out" in note for note in summary.notes)


@pytest.mark.parametrize("place", [0, 7, -1])
@pytest.mark.parametrize("extra", ["Length", "Start", "EffectiveLength", "Total"])
def test_columns_that_are_no_cells_are_left_out(extra: str, place: int, tmp_path: Path) -> None:
    table = frame(COUNTS).T
    table.insert(place % (N_CELLS + 1), extra, RNG.integers(100, 9000, N_GENES))
    table.to_csv(tmp_path / "m.csv")
    summary = ingest(tmp_path / "m.csv", tmp_path / "e.zarr")
    assert any(extra in note for note in summary.notes)
    assert_is_reference(tmp_path / "e.zarr")


@pytest.mark.parametrize(("empty", "warned"), [(0, False), (10, False), (200, True)])
def test_barcodes_with_next_to_nothing_are_warned_about(empty: int, warned: bool, tmp_path: Path) -> None:
    x = np.vstack([COUNTS * 20, np.eye(N_GENES)[np.arange(empty) % N_GENES]])
    cells = ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), var=pd.DataFrame(index=GENES))
    summary = ingest(cells, tmp_path / "e.zarr")
    assert any("as empty droplets" in note and "--min-genes" in note for note in summary.notes) == warned


@pytest.mark.parametrize(
    ("trained", "given", "refused"),
    [("log", "log", False), ("", "counts", False), ("log", "", False), ("log", "counts", True), ("counts", "log", True),
     ("cnnc", "log", True), ("deep-cell", "log", True), ("deep-cell", "deep-cell", False)],
)  # fmt: skip
def test_a_network_is_not_shown_other_values_than_it_knows(
    trained: str, given: str, refused: bool, refuses: Any
) -> None:
    if not refused:
        refuse_unlike(trained, given, Path("run"), "m.h5ad")
        return
    with refuses("run was trained on ", "m.h5ad holds ", "--preset"):
        refuse_unlike(trained, given, Path("run"), "m.h5ad")


@pytest.mark.skipif("PAIRSCAPE_DATA" not in os.environ, reason="PAIRSCAPE_DATA names no folder of real data")
def test_a_real_matrix_with_spike_ins_loses_them(tmp_path: Path) -> None:
    path = Path(os.environ["PAIRSCAPE_DATA"], "sets", "mouse_spleen_jaitin.h5ad")
    summary = ingest(path, tmp_path / "e.zarr")
    assert any("spike-ins (47: ERCC-00003" in note for note in summary.notes)
    assert not any(name.startswith("ERCC-") for name in ad.read_zarr(tmp_path / "e.zarr").var_names)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_an_antibody_named_as_a_gene_is_no_repeated_name(tmp_path: Path) -> None:
    table = frame(np.hstack([COUNTS, RNG.poisson(300, (N_CELLS, 1))]), [*GENES, GENES[0]])
    source = annotated(table, feature_types=["Gene Expression"] * N_GENES + ["Antibody Capture"])
    ingest(source, tmp_path / "e.zarr")
    assert_is_reference(tmp_path / "e.zarr")


@pytest.mark.parametrize("write", [write_mtx, write_csv], ids=["mtx", "csv"])
def test_a_matrix_that_has_to_be_turned_is_turned_once(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned: list[str] = []
    turn = open_module.turn
    monkeypatch.setattr(open_module, "turn", lambda *given: turned.append(given[-1]) or turn(*given))
    source = write(frame(COUNTS), tmp_path / "m")
    for _ in range(2):  # a second job finds what the first has made
        prepared(source, tmp_path / "i.zarr", compute=HERE, say=lambda *_: None)
    assert len(turned) == 1
