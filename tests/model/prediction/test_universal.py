"""`predict universal cells.h5ad scores.parquet`: any matrix, no other option. Whatever the network's weights say."""

import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import pairscape
from conftest import counted
from model_fixtures import gene_names, run_command
from pairscape.model.edges.scores import read_facts, read_scores
from pairscape.model.prediction import expressed, predict
from pairscape.model.prediction.expressed import expressed_request, genes_of, most_expressed
from pairscape.model.prediction.parts import likeliest_kind
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.options import Compute

HERE = Compute("synchronous")
CELLS, GENES, RARE = 150, 30, 6
N_PAIRS = (GENES - RARE) * (GENES - RARE - 1) // 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Raw counts of 150 cells, the first six genes in fewer than 20 of them, and their scores."""
    folder = tmp_path_factory.mktemp("universal")
    counts = counted(CELLS, GENES, seed=2).copy()
    counts[20:, RARE:] += np.random.default_rng(0).poisson(1, (CELLS - 20, GENES - RARE))
    counts[19:, :RARE] = 0
    cells = ad.AnnData(sparse.csr_matrix(counts))
    cells.obs_names, cells.var_names = [f"cell_{i}" for i in range(CELLS)], gene_names(GENES)
    cells.write_h5ad(folder / "cells.h5ad")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "PART_PAIRS", 64)
        pairscape.predict("universal", folder / "cells.h5ad", folder / "scores.parquet", compute=HERE, quiet=True)
    return folder


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(predict, "PART_PAIRS", 64)


@pytest.fixture(scope="module")
def frame(folder):
    return read_scores(folder / "scores.parquet").to_pandas()


def again(folder, out, **options):
    shutil.copytree(folder / "scores.expression.zarr", out.with_name(f"{out.stem}.expression.zarr"))
    return pairscape.predict("universal", folder / "cells.h5ad", out, **{"compute": HERE, "quiet": True, **options})


def test_every_pair_of_expressed_genes_gets_score_kind_correlation_and_q_value(folder, frame):
    columns = ["score", "kind", "kind_probability", "dependence", "correlation", "q_value"]
    assert list(frame) == ["gene_a", "gene_b", "label", *columns]
    assert len(frame) == N_PAIRS
    assert set(frame["gene_a"]) | set(frame["gene_b"]) == set(gene_names(GENES)[RARE:])
    assert set(frame["kind"]) <= set(KINDS[1:])
    assert frame["kind_probability"].between(1 / 6 - 1e-6, 1).all()
    assert frame[["score", "q_value"]].apply(lambda values: values.between(0, 1)).all().all()
    facts = read_facts(folder / "scores.parquet")
    assert facts["model"]["run"] == "universal"
    assert facts["pairs"]["pairs"] == {"expressed_in_cells": 20, "genes": 24, "genes_expressed_so": 24}


def test_kinds_are_in_the_bytes_of_any_scheduler_and_after_an_interruption(folder, tmp_path, monkeypatch):
    again(folder, tmp_path / "s.parquet", compute=Compute("threads", 2))
    wanted = (tmp_path / "s.parquet").read_bytes()
    wip = tmp_path / ".t.parquet.wip"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predict, "estimate_confidence", stop)
        with pytest.raises(KeyboardInterrupt):
            again(folder, tmp_path / "t.parquet", codes=tmp_path / "s.codes.zarr")
    receipts = sorted(wip.glob("receipts/*.json"))
    assert len(receipts) == -(-N_PAIRS // 64)
    receipts[1].unlink()
    pairscape.predict(
        "universal", folder / "cells.h5ad", tmp_path / "t.parquet", codes=tmp_path / "s.codes.zarr", compute=HERE,
        quiet=True,
    )  # fmt: skip
    pd.testing.assert_frame_equal(*(read_scores(tmp_path / f"{n}.parquet").to_pandas() for n in "st"))
    pairscape.predict(
        "universal", folder / "cells.h5ad", tmp_path / "s.parquet", compute=HERE, quiet=True, overwrite=True
    )
    assert (tmp_path / "s.parquet").read_bytes() == wanted


def test_raw_counts_score_as_the_ingested_matrix(folder, frame, tmp_path):
    pairscape.ingest(folder / "cells.h5ad", tmp_path / "e.zarr", quiet=True)
    pairscape.predict("universal", tmp_path / "e.zarr", tmp_path / "s.parquet", compute=HERE, quiet=True)
    found = read_scores(tmp_path / "s.parquet").to_pandas()
    pd.testing.assert_frame_equal(found, frame, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("options", "there"), [({"q_values": False}, False), ({"all_pairs": True}, True)], ids=str)
def test_q_values_are_on_unless_refused(folder, tmp_path, options, there):
    found = again(folder, tmp_path / "s.parquet", **options)
    assert ("q_value" in found) == there
    assert found.attrs["prior"] == read_facts(folder / "scores.parquet")["prior"]


@pytest.mark.parametrize("gone", [False, True])
def test_an_image_store_has_q_values_where_its_codes_are(folder, tmp_path, gone):
    matrix = folder / "scores.expression.zarr"
    bins, scale = (read_facts(folder / "scores.parquet")["model"][name] for name in ("bins", "scale"))
    pairscape.heatmaps(matrix, tmp_path / "i.zarr", all_pairs=True, bins=bins, scale=scale, compute=HERE, quiet=True)
    if gone:
        shutil.rmtree(tmp_path / "i.codes.zarr")
    found = pairscape.predict("universal", tmp_path / "s.parquet", images=tmp_path / "i.zarr", compute=HERE, quiet=True)
    assert ("q_value" in found) == (not gone)


def test_said_before_it_starts_and_run_from_a_file(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "cells.h5ad", tmp_path)
    (tmp_path / "job.toml").write_text(
        'folder = "out"\nscheduler = "synchronous"\n[predict]\nrun = "universal"\nexpression = "cells.h5ad"\n'
        '[export]\nfile = "net.tsv"\nsign = "-"\nthreshold = 0\nformat = "cytoscape"\n'
    )
    assert run_command("run", "job.toml") == 0
    said = capsys.readouterr().out
    assert "universal: the network that comes with Pairscape" in said
    order = [said.index(words) for words in (f"all {N_PAIRS} pairs of 24 genes", "scoring will take about", "wrote")]
    assert order == sorted(order)
    frame = pd.read_csv(tmp_path / "out/net.tsv", sep="\t")
    assert (frame["correlation"] < 0).all()
    assert set(frame["sign"]) == {"-"}


def test_too_many_pairs_are_those_of_the_most_expressed_genes(folder, monkeypatch):
    codes = open_codes(folder / "scores.codes.zarr")
    monkeypatch.setattr(expressed, "MOST_PAIRS", 50)
    request = expressed_request(codes, 0)
    pairs = request.chosen.pairs
    used = np.union1d(pairs.gene_a, pairs.gene_b)
    dropout = codes.array("dropout")
    assert (len(pairs), used.size) == (45, 10)
    assert dropout[used].max() <= np.delete(dropout, used).min()
    assert "those of most cells among 24 such genes" in request.chosen.notes[0]


def test_min_share_says_which_genes_make_all_pairs(folder, tmp_path):
    frame = again(folder, tmp_path / "s.parquet", min_share=0.9)
    dropout, gene = (open_codes(folder / "scores.codes.zarr").array(name) for name in ("dropout", "gene"))
    frequent = set(gene[1 - dropout >= 0.9].tolist())
    assert set(frame["gene_a"]) | set(frame["gene_b"]) == frequent
    assert len(frame) == len(frequent) * (len(frequent) - 1) // 2 < N_PAIRS


@pytest.mark.parametrize(("pairs", "genes"), [(1, 2), (2, 2), (3, 3), (45, 10), (54, 10), (5_000_000, 3162)])
def test_as_many_genes_as_make_no_more_pairs(pairs, genes):
    assert genes_of(pairs) == genes
    assert genes * (genes - 1) // 2 <= pairs < genes * (genes + 1) // 2


def test_of_equally_expressed_genes_the_first_are_taken():
    assert most_expressed(np.array([3, 9, 3, 5, 3]), 3).tolist() == [0, 1, 3]


def test_a_matrix_of_rare_genes_is_refused_in_one_line(folder, tmp_path, capsys):
    cells = ad.read_h5ad(folder / "cells.h5ad")[:19]
    cells.write_h5ad(tmp_path / "few.h5ad")
    given = [str(tmp_path / "few.h5ad"), str(tmp_path / "s.parquet"), "--scheduler", "synchronous", "--quiet"]
    assert run_command("predict", "universal", *given) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "0 of" in line
    assert "20 of 19 cells" in line
    assert not Path(tmp_path / "s.parquet").exists()


def test_the_likeliest_kind_is_never_none():
    classes = np.array([[0.9, 0.01, 0.01, 0.01, 0.01, 0.05, 0.01], [0, 0, 0, 1, 0, 0, 0], [1, *[0] * 6], [np.nan] * 7])
    kind, share = likeliest_kind(classes)
    np.testing.assert_array_equal(kind, [5, 3, np.nan, np.nan])
    np.testing.assert_allclose(share, [0.5, 1, np.nan, np.nan])
