"""An AnnData in, scores out: `predict(adata)`, what it keeps, the pictures of `pairscape.pl`, mistakes in one line."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot as plt
from scipy import sparse

import pairscape
from model_fixtures import as_anndata, gene_names, module_expression
from pairscape.annotated import matrix_of
from pairscape.model.edges.scores import read_frame
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.few_genes import few_genes
from pairscape.pipeline.matrix.prepare import trusted_record

CELLS = 240
GENES = gene_names(12)
A, B, C = GENES[:3]
QUIET = {"scheduler": "synchronous", "quiet": True, "q_values": False}


def counted(seed=0):
    """Raw counts with groups, one of them small, and cells without one."""
    rng = np.random.default_rng(seed)
    rate = np.exp(module_expression(CELLS, 3, 4, seed=seed)[0]) * rng.gamma(2, 1, (CELLS, 1))
    adata = as_anndata(np.maximum(rng.poisson(rate), np.arange(12) == 0).astype(np.float32))
    adata.obs["type"] = pd.Categorical(["T"] * 110 + ["B"] * 110 + ["rare"] * 10 + [None] * 10)
    adata.obs["score"] = np.arange(CELLS) * 1.5
    return adata


RECORD = {"preset": "scanpy", "value_kind": "raw counts"}  # as ingest leaves it there


@pytest.fixture(scope="module")
def filed(tmp_path_factory):
    """The file of scores by groups, of the call that names one."""
    path = tmp_path_factory.mktemp("filed") / "scores.parquet"
    pairscape.predict("universal", counted(), path, by="type", **QUIET)
    return path


@pytest.fixture(scope="module")
def table(filed):
    """Its scores."""
    return read_frame(filed)


@pytest.fixture(scope="module")
def kept():
    """An AnnData that keeps the same scores, under a name that something else of ours has already."""
    adata = counted()
    adata.uns["pairscape"] = dict(RECORD)
    assert pairscape.predict(adata, key_added="pairscape", by="type", **QUIET) is None
    return adata


@pytest.fixture(autouse=True)
def no_figure_stays():
    """Close what a test has drawn."""
    yield
    plt.close("all")


# ---------------------------------------------------------------- predict


def same(kept, table):
    """Whether these are the same scores; a file of AnnData has an index of text."""
    pd.testing.assert_frame_equal(kept.reset_index(drop=True), table.reset_index(drop=True), check_categorical=False)
    return True


def test_scores_are_those_of_the_call_with_a_file(kept, table):
    assert same(kept.uns["pairscape"]["scores"], table)
    facts = json.loads(kept.uns["pairscape"]["facts"])
    assert facts["model"] == table.attrs["model"]
    assert facts["codes"]["content_hash"] == table.attrs["codes"]["content_hash"]


def test_nothing_stays_on_the_disk_and_no_path_in_the_facts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = pairscape.predict(counted(), regulators=[A], random_state=np.int64(3), **QUIET)
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in json.dumps(found.attrs)
    assert found.attrs["seed"] == 3
    assert len(found) == 11


def test_kept_scores_are_a_symmetric_matrix_and_survive_a_file(kept, table, tmp_path):
    kept.write_h5ad(tmp_path / "a.h5ad")
    read = anndata.read_h5ad(tmp_path / "a.h5ad")
    matrix = read.varp["pairscape"]
    assert sparse.issparse(matrix)
    assert (matrix != matrix.T).nnz == 0
    together = table[table["group"] == "combined"]
    assert matrix.nnz == 2 * len(together)
    first = together.iloc[0]
    at = [read.var_names.get_loc(first[end]) for end in ("gene_a", "gene_b")]
    assert matrix[at[0], at[1]] == first["score"]
    held = read.uns["pairscape"]
    assert same(held["scores"], table)
    assert json.loads(held["facts"])["model"]["run"] == "universal"
    assert {name: held[name] for name in RECORD} == RECORD  # what was there of its making still is


def test_scores_that_were_kept_are_no_record_of_how_the_values_were_made():
    """Else the next prediction would take counts that are not whole for logarithms."""
    adata = with_x(lambda x: x * 0.77)
    adata.uns["pairscape"] = {"scores": pd.DataFrame(), "facts": "{}"}
    assert trusted_record(adata) == {}
    adata.uns["pairscape"] |= {"preset": "none"}
    assert trusted_record(adata)["preset"] == "none"


def test_a_pair_in_both_orders_has_the_higher_score(table):
    both = table.iloc[[0, 0, 1]].reset_index(drop=True)
    both.loc[1, ["gene_a", "gene_b"]] = both.loc[1, ["gene_b", "gene_a"]].to_numpy()
    both["score"] = np.array([0.25, 0.75, np.nan], np.float32)
    matrix = matrix_of(counted(), both, None)
    assert matrix.nnz == 2
    assert matrix[0, 1] == matrix[1, 0] == np.float32(0.75)


def test_a_view_keeps_scores_and_what_has_the_name_goes_where_that_is_asked_for():
    view = taken("uns")[:, GENES[:6]]
    with pytest.warns(anndata.ImplicitModificationWarning):
        pairscape.predict(view, key_added="s", regulators=[A], overwrite=True, **QUIET)
    assert view.varp["s"].shape == (6, 6)
    assert set(view.uns["s"]) == {"scores", "facts"}


def empty_adata():
    return AnnData(np.zeros((0, 0), np.float32))


def with_x(change):
    """The counts with other values."""
    adata = counted()
    adata.X = sparse.csr_matrix(change(adata.X.toarray()))
    return adata


def taken(where):
    """An AnnData in which someone else's has the name."""
    adata = counted()
    if where == "varp":
        adata.varp["s"] = sparse.eye(12, format="csr")
    else:
        adata.uns["s"] = {"params": 1}
    return adata


REFUSED = {
    "no AnnData": (lambda: pairscape.predict(pd.DataFrame({"a": [1]})), "DataFrame is neither"),
    "nothing": (lambda: pairscape.predict(["universal"]), "list is neither"),
    "the other way round": (lambda: pairscape.predict("universal", counted()), "AnnData first"),
    "a file beside it": (lambda: pairscape.predict(counted(), "s.parquet"), "name no file"),
    "key without AnnData": (lambda: pairscape.predict("universal", "a.h5ad", "s.parquet", key_added="s"), "key_added"),
    "model without AnnData": (lambda: pairscape.predict("universal", "a.h5ad", "s.parquet", model="run"), "model"),
    "unknown run": (lambda: pairscape.predict(counted(), model="universl"), "universl"),
    "network for model": (lambda: pairscape.predict(counted(), network="universal"), "model='universal'"),
    "images": (lambda: pairscape.predict(counted(), images="i.zarr"), "in place of a matrix"),
    "empty": (lambda: pairscape.predict(empty_adata()), "0 cells × 0 genes"),
    "NaN": (lambda: pairscape.predict(with_x(lambda x: np.where(x == x.max(), np.nan, x))), "NaN"),
    "negative": (lambda: pairscape.predict(with_x(lambda x: x - x.mean(0))), "negative"),
    "square roots": (lambda: pairscape.predict(with_x(np.sqrt)), "square roots"),
    "a lone gene": (lambda: pairscape.predict(counted(), regulators=["GATA1"], **QUIET), "0 of the 1"),
    "no column": (lambda: pairscape.predict(counted(), by="typ", **QUIET), "type"),
    "a measurement": (lambda: pairscape.predict(counted(), by="score", **QUIET), "measurement"),
    "NaN within": (lambda: pairscape.predict(counted(), within="type", **QUIET), "have no value"),
    "nameless": (
        lambda: pairscape.predict(AnnData(np.ones((9, 3), np.float32), var=pd.DataFrame(index=["A", "", "B"]))),
        "no name",
    ),
    "two seeds": (lambda: pairscape.predict(counted(), seed=1, random_state=2), "two words"),
    "a generator": (lambda: pairscape.predict(counted(), random_state=np.random.default_rng(0)), "whole number"),
    "seed as text": (lambda: pairscape.predict(counted(), random_state="1"), "whole number"),
    "seed below 0": (lambda: pairscape.predict(counted(), random_state=-1), "whole number"),
    "key of nothing": (lambda: pairscape.predict(counted(), key_added=" "), "word"),
    "key with a slash": (lambda: pairscape.predict(counted(), key_added="a/b"), "'a/b'"),
    "key no text": (lambda: pairscape.predict(counted(), key_added=3), "3"),
    "key in varp": (lambda: pairscape.predict(taken("varp"), key_added="s"), "varp['s']"),
    "key in uns": (lambda: pairscape.predict(taken("uns"), key_added="s"), "uns['s']"),
    "pl: no gene": (lambda: pairscape.pl.pair(counted(), "GENE0O1", B), "GENE001"),
    "pl: no like gene": (lambda: pairscape.pl.pair(counted(), "zzz", B), "it has GENE000"),
    "pl: one gene": (lambda: pairscape.pl.pair(counted(), A, A), "one gene"),
    "pl: no AnnData": (lambda: pairscape.pl.pair("a.h5ad", A, B), "str"),
    "pl: no column": (lambda: pairscape.pl.pair(counted(), A, B, groupby="cell_type"), "there are"),
    "pl: a measurement": (lambda: pairscape.pl.pair(counted(), A, B, groupby="score"), "measurement"),
    "pl: small groups": (lambda: pairscape.pl.pair(counted(), A, B, groupby="type", min_group_cells=200), "none of 3"),
    "pl: groups and ax": (lambda: pairscape.pl.pair(counted(), A, B, groupby="type", ax=plt.gca()), "ax"),
    "pl: three axes": (lambda: pairscape.pl.pair(counted(), A, B, ax=plt.subplots(1, 3)[1]), "3 axes"),
    "pl: bins": (lambda: pairscape.pl.pair(counted(), A, B, bins=1), "bins is 1"),
    "pl: no layer": (lambda: pairscape.pl.pair(counted(), A, B, layer="raw"), "no layer"),
    "pl: empty": (lambda: pairscape.pl.pair(empty_adata(), A, B), "0 cells × 0 genes"),
    "pl: no expression": (lambda: pairscape.pl.pair(with_x(lambda x: 0 * x), A, B), ""),
    "pl: negative": (lambda: pairscape.pl.pair(with_x(lambda x: x - x.mean(0)), A, B), "negative"),
    "pl: no scores": (lambda: pairscape.pl.network(counted()), "there are none"),
    "pl: no table": (lambda: pairscape.pl.network(3), "int"),
    "pl: another table": (lambda: pairscape.pl.network(pd.DataFrame({"a": [1]})), "gene_a nor gene_b nor score"),
    "pl: no file": (lambda: pairscape.pl.network("none.parquet"), "no such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_refused_in_one_line_and_leaves_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, words = REFUSED[name]
    with pytest.raises(InputError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- pictures


def test_pair_draws_the_density_and_the_residual_of_all_cells():
    density, residual = pairscape.pl.pair(counted(), A, B, bins=8)
    drawn = density.images[0].get_array()
    assert drawn.shape == (8, 8)
    assert drawn.sum() == CELLS
    assert (density.get_xlabel(), density.get_ylabel()) == (A, B)
    assert abs(residual.images[0].get_array()).max() > 0


def test_pair_is_drawn_as_the_network_sees_it(tmp_path):
    """The same counts as of an image store."""
    adata = counted()
    images = pairscape.heatmaps(
        adata, tmp_path / "i.zarr", pairs=[(A, B)], scale="rank", bins=16, scheduler="synchronous", quiet=True
    )
    drawn = pairscape.pl.pair(adata, A, B, bins=16)[0].images[0].get_array()
    np.testing.assert_array_equal(drawn, images.counts(slice(0, 1))[0])


def test_groups_stand_on_common_axes(capsys):
    axes = pairscape.pl.pair(counted(), A, B, groupby="type", bins=8)
    assert axes.shape == (2, 2)
    assert [panel.get_title(loc="left") for panel in axes[0]] == ["B\n110 cells", "T\n110 cells"]
    assert {panel.get_xlim() for panel in axes.flat} == {axes[0, 0].get_xlim()}
    assert "rare (10)" in (said := capsys.readouterr().out)
    assert "10 of 240 cells have no value" in said


def test_pair_draws_into_given_axes():
    figure, (one, other) = plt.subplots(1, 2)
    assert list(pairscape.pl.pair(counted(), A, B, ax=other)) == [other]
    assert len(other.images) == 1
    assert not one.images
    assert plt.get_fignums() == [figure.number]


def test_few_genes_are_what_ingest_stores(tmp_path):
    adata = counted()
    values = adata.X.toarray()
    values[5] = 0  # a cell without expression, which ingest leaves out
    adata.X = sparse.csr_matrix(values)
    adata.var["symbol"] = [f"S{i}" for i in range(12)]
    pairscape.ingest(adata, tmp_path / "e.zarr", quiet=True)
    stored = anndata.read_zarr(tmp_path / "e.zarr")
    found = few_genes(adata, ["S2", A])
    assert (found.ids, found.names) == ((C, A), ("S2", "S0"))
    np.testing.assert_allclose(found.values, stored[:, [C, A]].X.toarray().T, rtol=1e-6)


@pytest.mark.parametrize("given", ["table", "adata", "file", "a part of the table"])
def test_network_draws_the_best_edges(given, kept, table, filed):
    part = table[table["group"] == "combined"].drop(columns=["group", "kind", "label"])
    scores = {"table": table, "adata": kept, "file": str(filed), "a part of the table": part}
    axes = pairscape.pl.network(scores[given], top=5)
    together = part.nlargest(5, "score", keep="first")
    genes = {*together["gene_a"], *together["gene_b"]}
    assert {text.get_text() for text in axes.texts} == genes
    assert len(axes.patches) == 5


def test_network_around_a_gene_has_its_partners(table):
    own = table[(table["group"] == "T") & ((table["gene_a"] == A) | (table["gene_b"] == A))].nlargest(3, "score")
    figure, ax = plt.subplots()
    axes = pairscape.pl.network(table, gene=A, top=3, group="T", ax=ax)
    assert axes is ax
    assert {text.get_text() for text in axes.texts} == {*own["gene_a"], *own["gene_b"]}
    assert plt.get_fignums() == [figure.number]


TABLE_MISTAKES = {
    "no gene": ({"gene": "GENE0O1"}, "GENE001"),
    "no group": ({"group": "b"}, "combined, B, T"),
    "none": ({"top": 0}, "top is 0"),
}


@pytest.mark.parametrize("name", TABLE_MISTAKES)
def test_network_refuses_what_is_not_there(name, table):
    options, words = TABLE_MISTAKES[name]
    with pytest.raises(InputError, match=words):
        pairscape.pl.network(table, **options)


def test_network_of_pairs_without_a_score_says_so(table):
    with pytest.raises(InputError, match="has a score"):
        pairscape.pl.network(table.assign(score=np.nan))


# ---------------------------------------------------------------- where it is called


LOOP = """
import asyncio, anndata, pairscape
async def cell():
    return pairscape.predict(anndata.read_h5ad("a.h5ad"), workers=1, q_values=False)
print(len(asyncio.run(cell())), "pairs")
"""
UNGUARDED = """
import anndata, pairscape
print("imported")
pairscape.predict(anndata.read_h5ad("a.h5ad"), workers=2)
"""


@pytest.mark.cluster
def test_processes_start_from_a_loop_that_runs(tmp_path):
    """With worker processes, from code that no file holds, as in a notebook."""
    counted().write_h5ad(tmp_path / "a.h5ad")
    done = python(["-c", LOOP], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "66 pairs"
    assert "are gone" in done.stdout


def test_a_script_without_a_guard_is_told_before_a_process_starts(tmp_path):
    counted().write_h5ad(tmp_path / "a.h5ad")
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = python(["script.py"], tmp_path)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert "line 4: this job starts processes" in last
    assert '__name__ == "__main__"' in last
    assert done.stdout.count("imported") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5ad", "script.py"]


def python(words, folder: Path):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
