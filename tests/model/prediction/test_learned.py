"""Weights learned on a gold list: sets that know are told from those that do not, and no gene is seen twice."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscape.model.edges.score_sets import match_genes, open_sources
from pairscape.model.edges.scores import read_facts, read_scores, write_scores
from pairscape.model.options import Combination
from pairscape.model.prediction.learned import compared, read_gold
from typed import run_command

COMPLEXES, SUBUNITS = 12, 6
GENES = [f"G{i}" for i in range(COMPLEXES * SUBUNITS)]
FACTS = {"model": {"run": "universal", "weights": "f"}, "matrix": {"n_cells": 100}, "prior": 0.5, "pairs": {}}


def complex_of(gene):
    return int(gene[1:]) // SUBUNITS


def write_set(path, shift, seed):
    """All pairs of the genes; those within a complex correlate more by `shift`."""
    rng = np.random.default_rng(seed)
    a, b = np.triu_indices(len(GENES), 1)
    together = a // SUBUNITS == b // SUBUNITS
    rho = np.clip(rng.normal(shift * together, 0.1), -0.9, 0.9)
    found = {
        "gene_a": np.array(GENES, object)[a], "gene_b": np.array(GENES, object)[b],
        "label": np.full(a.size, -1, np.int8), "score": (1 / (1 + np.exp(-20 * np.abs(rho) + 3))).astype(np.float32),
        "dependence": np.abs(rho) * 10, "correlation": rho,
    }  # fmt: skip
    write_scores(path, [pa.table(found)], found, FACTS)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two sets that know the complexes, the second by falling together, one that does not; and the gold list."""
    place = tmp_path_factory.mktemp("learned")
    files = [write_set(place / f"{n}.parquet", shift, n) for n, shift in enumerate((0.15, -0.15, 0.0))]
    pairs = [(a, b) for i, a in enumerate(GENES) for b in GENES[i + 1 :] if complex_of(a) == complex_of(b)]
    lines = [f"{a},{b},C{complex_of(a)}" for a, b in pairs]
    (place / "gold.csv").write_text("\n".join(["gene_a,gene_b,complex", *lines]) + "\n")
    (place / "plain.csv").write_text("\n".join(["gene_a,gene_b", *(line.rpartition(",")[0] for line in lines)]) + "\n")
    return place, files


@pytest.fixture(scope="module")
def learned(made):
    place, files = made
    assert run_command("combine", *files, place / "out.parquet", "--learn", place / "gold.csv", "--quiet") == 0
    return place / "out.parquet"


def test_sets_are_weighed_by_what_they_know(learned):
    """Which the mean z cannot, as the sets contradict each other; the audit says so, with its interval."""
    audit = read_facts(learned)["combined"]["learned"]["audit"]
    assert audit["auroc"]["learned"] > 0.85
    assert abs(audit["auroc"]["mean z"] - 0.5) < 0.12
    assert audit["against_baseline"]["auroc"]["standing"] == "ahead"
    assert abs(audit["auroc"]["labels alone"] - 0.5) < 0.02
    assert audit["auroc"]["sets"] == 0.5
    groups = audit["groups"]
    assert groups["number"] == COMPLEXES
    assert 0 < groups["interval"][0] <= groups["difference"] <= groups["interval"][1]
    weights = np.abs(read_facts(learned)["combined"]["learned"]["weights"]).sum(axis=1)
    assert weights[2] < weights[:2].min()


def test_every_pair_is_scored(learned):
    rows = read_scores(learned).to_pylist()
    within = [row["score"] for row in rows if complex_of(row["gene_a"]) == complex_of(row["gene_b"])]
    others = [row["score"] for row in rows if complex_of(row["gene_a"]) != complex_of(row["gene_b"])]
    assert len(rows) == len(GENES) * (len(GENES) - 1) // 2
    assert all(0 < score < 1 for score in within + others)
    assert np.median(within) > 0.7 > 0.3 > np.median(others)


def test_the_same_seed_gives_the_same_bytes(made, learned):
    place, files = made
    assert run_command("combine", *files, place / "again.parquet", "--learn", place / "gold.csv", "--quiet") == 0
    assert (place / "again.parquet").read_bytes() == learned.read_bytes()


@pytest.mark.parametrize("name", ["gold.csv", "plain.csv"])
def test_no_gene_of_a_judged_pair_is_seen_in_its_training(made, name):
    """Whether the list names groups or not; and negatives are pairs that no complex has."""
    place, files = made
    wanted = Combination(learn=place / name)
    sources = match_genes(open_sources(files, wanted), wanted)
    gold, own, _ = read_gold(place / name, sources, np.random.default_rng(0))
    assert not own
    judged = np.zeros(gold.key.size, int)
    for train, test in gold.splits():
        seen = np.union1d(gold.gene_a[train], gold.gene_b[train])
        assert not np.isin(gold.gene_a[test], seen).any()
        assert not np.isin(gold.gene_b[test], seen).any()
        judged[test] += 1
    assert (judged == 1).all()
    names = np.array(sources.union.names)
    for a, b, label in zip(names[gold.gene_a], names[gold.gene_b], gold.label, strict=True):
        assert (complex_of(a) == complex_of(b)) == (label == 1)


def test_negatives_of_the_list_are_taken(made, capsys):
    place, files = made
    rng = np.random.default_rng(0)
    lines = ["gene_a,gene_b,label"]
    for _ in range(400):
        a, b = rng.choice(len(GENES), 2, replace=False)
        lines.append(f"G{a},G{b},{int(a // SUBUNITS == b // SUBUNITS)}")
    lines += [f"G{i},G{i + 1},1" for i in range(0, len(GENES), 2)]
    (place / "labelled.csv").write_text("\n".join(lines) + "\n")
    out = place / "labelled.parquet"
    assert run_command("combine", *files, out, "--learn", place / "labelled.csv") == 0
    known = read_facts(out)["combined"]["learned"]
    assert known["negatives"] > 300
    assert "groups" not in known["audit"]
    assert "AUROC of pairs whose genes the model has not seen: learned" in capsys.readouterr().out
    assert json.loads(pq.read_schema(out).metadata[b"pairscape"])["combined"]["rule"] == "learned"


def test_one_group_alone_has_no_negatives(made, capsys):
    place, files = made
    pairs = [f"G{i},G{j}" for i in range(SUBUNITS) for j in range(i)] + [f"G{i},G{i}" for i in range(3)]
    (place / "one.csv").write_text("\n".join(["gene_a,gene_b", *pairs]) + "\n")
    assert run_command("combine", *files, place / "one.parquet", "--learn", place / "one.csv") == 2
    assert "0 negatives to them" in capsys.readouterr().err


def test_negatives_are_compared_with_positives_that_share_a_gene(made):
    """Wherever there is one, and not always with the same."""
    place, files = made
    wanted = Combination(learn=place / "gold.csv")
    sources = match_genes(open_sources(files, wanted), wanted)
    gold, _, _ = read_gold(place / "gold.csv", sources, np.random.default_rng(0))
    positive, negative = compared(gold, np.random.default_rng(0))
    assert (gold.label[positive] == 1).all()
    assert (negative == np.flatnonzero(gold.label == 0)).all()
    shared = [
        {gold.gene_a[p], gold.gene_b[p]} & {gold.gene_a[n], gold.gene_b[n]}
        for p, n in zip(positive, negative, strict=True)
    ]
    assert all(len(genes) == 1 for genes in shared)
    assert {next(iter(genes)) == gold.gene_a[n] for genes, n in zip(shared, negative, strict=True)} == {True, False}
    apart = gold.take((gold.label == 0) | (gold.gene_a < SUBUNITS))  # other complexes have no positive now
    positive, negative = compared(apart, np.random.default_rng(0))
    assert (apart.label[positive] == 1).all()
    assert np.unique(positive).size > SUBUNITS
