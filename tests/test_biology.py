"""`benchmarks.biology`: its gold standards are read right, its negatives are matched, its figures are what they say."""

import json
import sys
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score

from benchmarks import biology, coexpression, gold
from benchmarks.cells import Cells, read_set
from benchmarks.packages import reason_against

# ── readers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "genes"),
    [
        ("TERM\thttps://somewhere.org/TERM\tA\tB", {"A", "B"}),
        ("term (GO:1)\t\tA\tB\tB\t", {"A", "B"}),
        ("granule (GO:2),A\tB\tC", {"A", "B", "C"}),  # as Enrichr's file of 2018 has it
        ("TERM\t\tA,1.0\tB,1.0", {"A", "B"}),
        ("TERM\t\tA", None),
        ("TERM", None),
        ("", None),
    ],
)
def test_a_line_of_a_gmt_file(tmp_path, line, genes):
    (tmp_path / "sets.gmt").write_text(f"{line}\nOTHER\t\tX\tY\n")
    found = list(gold.read_gmt(tmp_path / "sets.gmt").values())
    assert found == ([genes] if genes else []) + [{"X", "Y"}]


def test_pairs_leave_out_what_is_none(tmp_path):
    (tmp_path / "p.csv").write_text("gene_a,gene_b,weight\nA,B,1\nA,B,-1\nA,A,1\n,B,1\nA\n C ,D,1\n")
    assert gold.read_pairs(tmp_path / "p.csv") == [("A", "B"), ("C", "D")]
    (tmp_path / "q.csv").write_text("source,target\nA,B\n")
    with pytest.raises(SystemExit, match="gene_a and no column gene_b"):
        gold.read_pairs(tmp_path / "q.csv")


def test_pairs_among_the_genes():
    listed = [("A", "B"), ("B", "A"), ("C", "A"), ("A", "Z")]
    assert gold.known_pairs(listed, "ABC", directed=False).tolist() == [[0, 1], [0, 2]]
    assert gold.known_pairs(listed, "ABC", directed=True).tolist() == [[0, 1], [1, 0], [2, 0]]
    assert gold.known_pairs([], "ABC", directed=True).shape == (0, 2)


@pytest.mark.parametrize(("gene", "is_one"), [("RPL3", True), ("Mrps7", True), ("RPA1", False), ("GRPEL1", False)])
def test_the_ribosome(gene, is_one):
    assert gold.is_ribosomal(gene) == is_one


# ── negatives ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("directed", [False, True])
def test_negatives_have_the_degrees_and_the_expression_of_the_positives(directed):
    rng = np.random.default_rng(1)
    ends = np.argwhere(rng.random((80, 80)) < 0.05)
    positive = gold.known_pairs([(a, b) for a, b in ends.tolist() if a != b], list(range(80)), directed)
    expression = rng.permutation(80).astype(float)
    found = gold.match_negatives(positive, expression, directed, np.random.default_rng(0))
    assert len(found.positive) == len(found.negative) == len(positive) - found.left_out > 0.8 * len(positive)
    quarter = (expression * gold.STRATA // 80).astype(int)
    sides = [[], []]
    for side, pairs in zip(sides, (found.positive, found.negative), strict=True):
        ordered = pairs if directed else np.sort(pairs, axis=1)
        assert len({tuple(pair) for pair in ordered.tolist()}) == len(pairs)
        side.append(np.bincount(pairs.ravel(), minlength=80))
        side.append(np.bincount(pairs[:, 0], minlength=80) if directed else 0)
        side.append(np.bincount(quarter[pairs[:, 0]] * gold.STRATA + quarter[pairs[:, 1]], minlength=16))
    assert all(np.array_equal(*both) for both in zip(*sides, strict=True))
    known = {tuple(pair) for pair in positive.tolist()}
    assert not known & {way for a, b in found.negative.tolist() for way in ((a, b), (b, a))}
    again = gold.match_negatives(positive, expression, directed, np.random.default_rng(0))
    assert np.array_equal(again.negative, found.negative)


def test_a_clique_alone_has_no_negatives():
    """Every swap of partners within one complex is a pair of the complex."""
    positive = np.stack(np.triu_indices(6, 1), axis=1)
    found = gold.match_negatives(positive, np.arange(6.0), False, np.random.default_rng(0))
    assert (len(found.positive), len(found.negative), found.left_out) == (0, 0, 15)
    assert gold.worth(np.eye(6), found) == {"auroc": None, "average_precision": None}


def test_the_worth_of_scores():
    matched = gold.Matched(np.array([[0, 1], [2, 3]]), np.array([[0, 3], [2, 1]]), 0)
    score = np.zeros((4, 4))
    score[0, 1], score[0, 3], score[2, 1] = 3, 1, 2  # one positive above both negatives, the other below
    assert gold.worth(score, matched) == {"auroc": 0.5, "average_precision": (1 + 2 / 4) / 2}


# ── neighbour voting ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_neighbour_voting_by_hand():
    """Of a term A, B, C and a gene D outside: A has 7/12 of its weight there (D 5/10), B 10/12 (8/10), C 5/8 (7/10)."""
    score = np.zeros((4, 4))
    for rank, (a, b) in enumerate([(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]):
        score[a, b] = score[b, a] = [6, 1, 4, 5, 2, 3][rank]
    assert gold.neighbour_voting(score, np.array([[0, 1, 2, -1]], np.int8)) == pytest.approx(2 / 3)


def test_neighbour_voting_term_by_term():
    rng = np.random.default_rng(0)
    score = rng.normal(size=(40, 40))
    score += score.T
    terms = {str(number): set(rng.choice(40, 12, replace=False).tolist()) for number in range(5)}
    fold = gold.deal_folds(gold.term_members(terms, range(40)), np.random.default_rng(0))
    rank = np.zeros((40, 40))
    rank[np.triu_indices(40, 1)] = score[np.triu_indices(40, 1)].argsort().argsort() + 1
    rank += rank.T
    expected = []
    for row in fold:
        for number in range(gold.FOLDS):
            vote = rank[:, (row >= 0) & (row != number)].sum(1) / rank.sum(1)
            asked = (row == number) | (row < 0)
            expected.append(roc_auc_score(row[asked] == number, vote[asked]))
    assert gold.neighbour_voting(score, fold) == pytest.approx(np.mean(expected), abs=1e-3)
    assert gold.neighbour_voting(score, fold[:0]) is None


def test_terms_of_few_genes_are_left_out():
    terms = {"few": set(range(9)), "enough": set(range(10)), "absent": set(range(100, 120))}
    assert gold.term_members(terms, range(30)).sum(axis=1).tolist() == [10]


# ── statistics ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def cells():
    """Counts of 30 genes in 400 cells of very different depth; the first two rise together."""
    rng = np.random.default_rng(0)
    depth = rng.lognormal(6, 0.6, 400)
    share = rng.dirichlet(np.full(30, 2.0)) * 0.5
    rate = np.outer(depth, share)
    rate[:, :2] *= rng.gamma(2, 0.5, (400, 1))
    counts = rng.poisson(rate).astype(np.float32)
    kind, genes = np.arange(400) % 3, tuple(f"G{number}" for number in range(30))
    return Cells("made", genes, sparse.csr_matrix(counts), depth, (counts > 0).sum(1), kind)


ALL_PAIRS = np.stack(np.triu_indices(30, 1), axis=1)


@pytest.mark.parametrize("name", list(coexpression.statistics()))
def test_every_statistic_finds_what_rises_together(cells, name):
    score = coexpression.statistics()[name].score(cells, ALL_PAIRS)
    assert np.allclose(score, score.T, equal_nan=True)
    best = score[0, 1] == np.max(score[tuple(ALL_PAIRS.T)])
    assert best == (name != "Spearman of raw counts")  # which sees depth, as expressed genes share it most


def test_the_network_within_one_stratum_is_the_plain_one(cells):
    plain = coexpression.universal()(cells, ALL_PAIRS)
    one = coexpression.universal(lambda some: np.zeros(some.depth.size, int))(cells, ALL_PAIRS)
    assert np.nanmax(np.abs(plain - one)) < 1e-3


def test_rho_p_is_what_it_is_defined_as(cells):
    logs = np.log(np.maximum(cells.dense, 1))
    logs -= logs.mean(axis=0)
    a, b = logs[3], logs[7]
    expected = 1 - (a - b).var() / (a.var() + b.var())
    found = coexpression.statistics()["propr"].score(cells, ALL_PAIRS)[3, 7]
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_null_keeps_depths_and_shares_and_nothing_else(cells):
    null = cells.null(0)
    assert np.array_equal(null.depth, cells.depth)
    assert np.allclose(null.counted.share, cells.counted.share, rtol=0.1)
    assert coexpression.statistics()["Pearson residuals"].score(null, ALL_PAIRS)[0, 1] < 0.15
    first, second = cells.halves(0)
    assert (first.depth.size, second.depth.size) == (200, 200)
    assert not set(first.depth) & set(second.depth)


def test_agreement_and_the_place_of_null_pairs():
    real = np.arange(1000.0)
    assert biology.agreement(real, real) == 1
    assert biology.agreement(real, -real) == 0
    found = biology.beyond(np.array([995.0, 0, 0, np.nan]), real)
    assert found["null_beyond"] == pytest.approx(1 / 3)
    assert found["null_in_sd"] == pytest.approx(995 / 3 / real.std())


def test_scores_of_sets_are_pooled(cells):
    """The second set lacks a gene: its pairs count as 0 in the mean z, and not at all in the mean rank."""
    known = np.arange(29)
    other = replace(cells.take(np.arange(100)), genes=cells.genes[:29], counts=cells.counts[:100, known])
    situation = biology.Situation("both", (cells, other), cells.genes)
    statistic = coexpression.statistics()["Spearman"]
    found = situation.scores(statistic, situation.sets, situation.pairs)
    one, two = (statistic.score(some, ALL_PAIRS) for some in (cells, other))
    assert found["mean z"][0, 1] == pytest.approx((one[0, 1] * 20 + two[0, 1] * 10) / 2, rel=1e-5)
    assert found["mean z"][0, 29] == pytest.approx(one[0, 29] * 10, rel=1e-5)
    assert -1 < found["mean rank"][0, 29] < found["mean rank"][0, 1] == found["mean rank"][1, 0] > 0.99


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def data(tmp_path, cells):
    """Two sets with little gold."""
    rng = np.random.default_rng(0)
    for folder in ("gold", "sets"):
        (tmp_path / folder).mkdir()
    for number in range(2):
        obs = pd.DataFrame({"cell_type": np.where(np.arange(400) < 250, "T", "B")}, index=[f"c{i}" for i in range(400)])
        made = anndata.AnnData(cells.counts, obs, pd.DataFrame(index=list(cells.genes)))
        made.write_h5ad(tmp_path / "sets" / f"set{number}.h5ad")
    pairs = [sorted(rng.choice(30, 2, replace=False)) for _ in range(40)]
    lines = "gene_a,gene_b,weight\n" + "".join(f"G{a},G{b},1\n" for a, b in pairs)
    for name in ("corum_pairs_human.csv", "collectri_human.csv"):
        (tmp_path / "gold" / name).write_text(lines)
    term = "\t".join(f"G{number}" for number in range(12))
    for name in ("go_bp_human_2021.gmt", "reactome_human_2025.gmt"):
        (tmp_path / "gold" / name).write_text(f"TERM\t\t{term}\n")
    return tmp_path


def test_the_command_prints_tables_and_goes_on(data, capsys):
    out = data / "biology.json"
    options = f"--sets set0,set1 --genes 30 --slow-genes 20 --seeds 0 --json {out}"
    given = [str(data), *options.split()]
    biology.main([*given, "--only", "Spearman,hotspot"])
    printed = capsys.readouterr().out
    assert "| hotspot | not run: --peers was not given |" in printed
    assert "set0, the largest cell type, 30 genes; 250 cells; GO terms 1;" in printed
    assert "| Spearman, mean rank absolute |" in printed
    before = json.loads(out.read_text())
    biology.main([*given, "--only", "Spearman,propr", "--situations", "all"])
    after = json.loads(out.read_text())
    for old, new in zip(before["situations"], after["situations"], strict=True):
        assert old["rows"]["Spearman"] == new["rows"]["Spearman"]  # seconds too: it was not computed again
    assert "propr" in after["situations"][0]["rows"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--only", "Sparman"], "no row is called Sparman"),
        (["--situations", "some"], "there are all, type, slow, pooled"),
        (["--sets", "absent"], "no set can be used"),
    ],
)
def test_what_cannot_be_asked_is_told(data, given, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        biology.main([str(data), *given])
    assert told in str(stopped.value) + capsys.readouterr().err


def test_a_folder_without_gold_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        biology.main([str(tmp_path)])
    assert "gold/, sets/ and pbmc4k/" in capsys.readouterr().err


def test_sets_without_counts_are_told(data):
    path = data / "sets" / "set0.h5ad"
    logs = anndata.read_h5ad(path)
    logs.X = logs.X * 0.5
    logs.write_h5ad(path)
    assert read_set(path) == "holds no raw counts"


def test_a_package_that_is_not_there_is_told():
    assert reason_against(None, "hotspot") == "not run: --peers was not given"
    assert "No module named" in reason_against(sys.executable, "rustscenic")
