"""The table of `benchmarks.independence`: its tests are what their names say, and it can tell dependent pairs."""

import json

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata, spearmanr

from benchmarks import independence
from benchmarks.classical import CLASSICAL, Sample
from benchmarks.independence import ALL, NETWORK, Condition, Design, deal, held_out, measure, worth
from made_runs import make_run
from model_fixtures import as_anndata, small_store
from pairscape.model.evaluation.association import distance_correlation
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.heatmaps.drawn import draw_images
from pairscape.pipeline.options import Binning

FAST = [name for name in CLASSICAL if name not in ("MGC", "KSG mutual information", "Chatterjee's xi", "Kendall")]
SLOW = [name for name in CLASSICAL if name not in FAST]


@pytest.fixture(scope="module")
def expression():
    """Counts of 40 genes in 400 cells, a third of them zero; one gene is expressed in 19 cells."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.lognormal(0, 0.6, (400, 1)) * rng.uniform(0.8, 3, 40))
    counts[:, 7] = 0
    counts[:19, 7] = 1
    return as_anndata(np.log1p(counts).astype(np.float32)).X


def sample_of(a, b):
    a, b = (np.asarray(side, np.float32) for side in (a, b))
    return Sample(a, b, *draw_images(a, b, Binning("rank", 32)))


def brute_hoeffding(a, b):
    """By the definition, over all pairs of cells."""
    n, r, s = a.size, rankdata(a), rankdata(b)
    below = (
        (a[None] < a[:, None]) + 0.5 * (a[None] == a[:, None]),
        (b[None] < b[:, None]) + 0.5 * (b[None] == b[:, None]),
    )
    q = (below[0] * below[1]).sum(1) + 1 - 0.25
    d1, d2 = ((q - 1) * (q - 2)).sum(), ((r - 1) * (r - 2) * (s - 1) * (s - 2)).sum()
    d3 = ((r - 2) * (s - 2) * (q - 1)).sum()
    return 30 * ((n - 2) * (n - 3) * d1 + d2 - 2 * (n - 2) * d3) / np.prod(n - np.arange(5.0))


def test_statistics_are_those_of_their_names():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 12, (4, 80))
    b = (a + rng.integers(0, 9, (4, 80))) % 14
    sample = sample_of(a, b)
    for name, wanted in {
        "Pearson": [abs(np.corrcoef(x, y)[0, 1]) for x, y in zip(a, b, strict=True)],
        "Spearman": [abs(spearmanr(x, y).statistic) for x, y in zip(a, b, strict=True)],
        "Kendall": [abs(kendalltau(x, y).statistic) for x, y in zip(a, b, strict=True)],
        "Hoeffding's D": [brute_hoeffding(x, y) for x, y in zip(a, b, strict=True)],
    }.items():
        np.testing.assert_allclose(CLASSICAL[name](sample), wanted, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", list(CLASSICAL))
def test_every_test_tells_a_close_pair_from_independent_ones_and_does_not_mind_a_constant_gene(name):
    rng = np.random.default_rng(2)
    a = rng.poisson(2, (4, 150))
    b = np.concatenate([a[:1] + (rng.random((1, 150)) < 0.3), rng.poisson(2, (2, 150)), np.full((1, 150), 2)])
    found = CLASSICAL[name](sample_of(a, b))
    assert np.isfinite(found).all()
    assert found[0] > found[1:].max()


def test_pairs_are_half_independent_keep_their_values_and_are_the_same_again(expression):
    condition, binning = Condition("set", 300, "0.6:0.7", 4), Binning("rank", 16)
    dealt = deal(expression, condition, Design(120), binning)
    assert np.bincount(dealt.kind, minlength=7).tolist() == [60, *[10] * 6]
    assert dealt.sample.counts.shape == (180, 16, 16)  # and half as many decoys
    assert (dealt.sample.counts.sum(axis=(1, 2)) == 300).all()
    assert ((dealt.sample.a > 0).sum(1) >= 20).all()
    again = deal(expression, condition, Design(120), binning)
    np.testing.assert_array_equal(again.sample.counts, dealt.sample.counts)
    other = deal(expression, Condition("set", 300, "0.6:0.7", 5), Design(120), binning)
    assert (other.sample.counts != dealt.sample.counts).any()
    score = distance_correlation(dealt.sample.counts)
    auroc = worth(score[:120], dealt.kind, score[120:])
    assert min(auroc[kind] for kind in ("rising", "falling", "threshold", "u-shaped")) > 0.95


def test_a_share_of_the_cells_may_be_asked_to_express_a_gene(expression):
    condition, binning = Condition("set", 300, "0.6", 4), Binning("rank", 16)
    some, most = (deal(expression, condition, Design(60, share), binning).sample for share in (0.05, 0.8))
    assert (some.a > 0).sum(1).min() < 240 <= min((most.a > 0).sum(1).min(), (most.b > 0).sum(1).min())


def test_too_few_genes_are_told(expression):
    with pytest.raises(SystemExit, match=r"set: 0 genes are expressed in 20 of 15 cells"):
        deal(expression, Condition("set", 15, "0.5", 0), Design(24), Binning("rank", 16))


def test_power_is_of_calls_whose_false_share_the_decoys_promise():
    rng = np.random.default_rng(3)
    kind = np.arange(8000) % 2
    score = rng.normal(size=8000) + np.where(kind > 0, 2.5, 0)
    found = worth(score, kind, rng.normal(size=4000))
    assert 0.03 < found["realised_fdr"] < 0.07
    assert 0.65 < found["power"] < 0.85
    nothing = worth(rng.normal(size=8000), kind, rng.normal(size=4000))
    assert nothing["power"] < 0.01


def test_a_slow_test_takes_some_pairs_and_the_network_is_told_on_the_same(expression):
    dealt = deal(expression, Condition("set", 200, "0.5:0.8", 0), Design(120, turned=0.5), Binning("rank", 16))
    truth = np.concatenate([dealt.kind, np.zeros(60, int)])

    def knows(sample):
        asked = len(sample.counts)
        kind = truth if asked == 180 else truth[:asked]
        shares = np.eye(7)[kind]
        return 1 - shares[:, 0], shares

    found = measure(dealt, knows, without=SLOW[1:], most={SLOW[0]: 36})
    assert set(found) == {NETWORK, *FAST, SLOW[0]}
    assert (found[NETWORK][ALL], found[NETWORK]["kind_right"], found[NETWORK]["power"]) == (1, 1, 1)
    assert (found[SLOW[0]]["pairs"], found[SLOW[0]]["network_on_these"]) == (36, 1)
    assert "network_on_these" not in found["Spearman"]


def test_sets_of_role_test_and_those_beside_them(tmp_path):
    sets = tmp_path / "sets"
    sets.mkdir()
    (tmp_path / "pbmc4k").mkdir()
    (tmp_path / "pbmc4k/pbmc4k_raw.h5ad").touch()
    for name in ("one", "two", "three"):
        (sets / f"{name}.h5ad").touch()
    assert list(held_out([sets])) == ["one", "three", "two"]  # no table, no roles
    (sets / "README.md").write_text("| name | role |\n| `one` | train |\n| `two` | **test** |\n")
    assert held_out([sets]) == {"pbmc4k": tmp_path / "pbmc4k/pbmc4k_raw.h5ad", "two": sets / "two.h5ad"}
    assert held_out([sets / "one.h5ad"]) == {"one": sets / "one.h5ad"}


def test_the_command_end_to_end(tmp_path_factory, tmp_path, expression, capsys):
    store = small_store(tmp_path_factory.getbasetemp())
    run = make_run(tmp_path / "run", store.path, network="pairnet")
    as_anndata(np.expm1(expression.toarray()).round()).write_h5ad(tmp_path / "counts.h5ad")
    told, plot = tmp_path / "told.json", tmp_path / "independence.png"
    independence.main([
        str(run), "--sets", str(tmp_path / "counts.h5ad"), "--cells", "100,1500,900", "--pairs", "60", "--seeds", "0,1",
        "--strength", "0.5:0.8", "--without", ",".join(SLOW), "--json", str(told), "--plot", str(plot),
    ])  # fmt: skip
    found = json.loads(told.read_text())
    assert [(run["cells"], run["seed"]) for run in found["runs"]] == [(100, 0), (100, 1), (400, 0), (400, 1)]
    assert len(found["summary"]) == 2
    entry = found["summary"][1]["tests"]["Spearman"]
    assert entry[ALL]["lowest"] <= entry[ALL]["mean"] <= entry[ALL]["highest"]
    assert set(KINDS[1:]) <= entry.keys()
    assert plot.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "counts, 400 cells, strength 0.5:0.8: network ahead of" in out
    assert "ahead of the best classical test by" in out
    assert "| counts, 400 | " in out
    assert "fewer than 1,000 cells: all kinds 0." in out


WRONG = {
    "a test that is none": (["--without", "Spaerman"], "no test is called Spaerman"),
    "turned": (["--turned", "half"], "invalid float value: 'half'"),
    "cells": (["--cells", "350,x"], "--cells"),
    "no sets": (["--sets"], "expected at least one argument"),
    "an empty folder": (["--sets", "nowhere"], "no set lies in nowhere"),
}


@pytest.mark.parametrize(("option", "words"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_option_is_told(tmp_path, capsys, option, words):
    with pytest.raises(SystemExit):
        independence.main([str(tmp_path), "--sets", str(tmp_path), *option])
    assert words in capsys.readouterr().err
