"""`--min-share`: candidates of genes that enough cells express, and what is told of matrices with very many genes."""

import numpy as np
import pytest

from conftest import simulated, store_expression
from pairscape.pipeline.codes import encode
from pairscape.pipeline.genes.pairs import pair_keys
from pairscape.pipeline.heatmaps import job
from pairscape.pipeline.heatmaps.job import resolve_request
from pairscape.pipeline.heatmaps.widespread import advice, share_expressing
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import PairSource, required_source

DENSE = simulated(150, 46)
SHARE = (DENSE > 0).mean(axis=0)


@pytest.fixture(scope="module")
def expression(tmp_path_factory):
    return open_expression(store_expression(tmp_path_factory.mktemp("wide") / "e.zarr", DENSE))


def found(expression, **source):
    """The request's ordered pairs as numbers, and its notes."""
    request = resolve_request(expression, PairSource(**source), 0)
    pairs = request.chosen.pairs
    return set(pair_keys(pairs.gene_a, pairs.gene_b, 46).tolist()), request


def test_the_share_is_that_of_the_matrix(expression, monkeypatch):
    np.testing.assert_array_equal(share_expressing(expression), SHARE)
    monkeypatch.setattr(encode, "SAMPLE_CELLS", 60)  # a larger matrix is sampled
    monkeypatch.setattr(encode, "SAMPLE_RUN", 20)
    assert np.abs(share_expressing(expression) - SHARE).max() < 0.3


@pytest.mark.parametrize("least", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("source", ["all_pairs", "regulators", "regulators and targets", "pairs"])
def test_only_pairs_of_frequent_genes_are_left(source, least, expression, tmp_path):
    (tmp_path / "r.txt").write_text("G1\nG5\nG40\n")
    (tmp_path / "t.txt").write_text("G2\nG44\nG45\n")
    (tmp_path / "p.csv").write_text("gene_a,gene_b,label\nG40,G44,1\nG1,G45,0\nG45,G41,1\n")
    options = {
        "all_pairs": {"all_pairs": True},
        "regulators": {"regulators": tmp_path / "r.txt"},
        "regulators and targets": {"regulators": tmp_path / "r.txt", "targets": tmp_path / "t.txt"},
        "pairs": {"pairs": tmp_path / "p.csv"},
    }[source]
    every, whole = found(expression, **options)
    kept, request = found(expression, **options, min_share=least)
    frequent = least <= SHARE
    assert kept == {key for key in every if frequent[key // 46] and frequent[key % 46]}
    assert f"{frequent.sum()} of 46 genes are expressed by at least {100 * least:g} % of the cells" in str(
        request.chosen.notes
    )
    assert request.provenance["pairs"]["min_share"] == str(least)
    assert "min_share" not in whole.provenance["pairs"]


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "min share is 0"), (-0.1, "min share is -0.1"), (1.5, "1.5"), (float("nan"), "nan")],
)
def test_what_is_no_share_is_refused(share, words, refuses):
    with refuses(words, "0.1 is a tenth"):
        PairSource(all_pairs=True, min_share=share)


def test_a_share_that_no_pair_has_is_refused(expression, tmp_path, refuses):
    (tmp_path / "p.csv").write_text("G1,G2\n")
    with refuses("no candidate pair is left", "100 %", "--min-share"):
        resolve_request(expression, PairSource(pairs=tmp_path / "p.csv", min_share=1.0), 0)


def test_a_share_alone_says_which_genes_and_only_predict_takes_that(refuses):
    source = PairSource(min_share=0.1)
    assert not source.names_pairs
    with refuses("0 sources of pairs"):
        required_source(source)
    with refuses("0 sources of pairs"):
        PairSource(min_share=0.1, labels="replicate")


def test_very_many_pairs_are_told_with_a_way_to_fewer(expression, monkeypatch):
    share = np.concatenate([np.full(1865, 0.1), np.full(9678, 0.04)])
    assert advice(share) == (
        "11,543 genes make 66.6 million pairs; 1,865 are in at least 5 % of the cells (1.7 million): --min-share 0.05"
    )
    assert advice(share[:3000]) is None
    monkeypatch.setattr(job, "MANY_GENES", 40)
    monkeypatch.setattr("pairscape.pipeline.heatmaps.widespread.MANY_PAIRS", 500)
    notes = str(found(expression, all_pairs=True)[1].chosen.notes)
    assert "46 genes make 0.0 million pairs" in notes
