"""Candidate pairs: which are made, which are dropped, what is said about it, and where labels come from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pairs import all_pairs, candidates, cross_pairs, label_edges
from pipeline.spec import PairSource

GENES = ["GATA1", "KLF1", "SPI1", "TAL1", "CEBPA"]
indices = st.lists(st.integers(0, 8), unique=True).map(lambda genes: np.array(sorted(genes), np.int32))


@pytest.fixture
def listed(tmp_path):
    """Write a file, return its path: `listed("pairs.csv", "a,b\\n")`."""

    def write(name, content):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    return write


def rows(pairs):
    """Names and labels of pairs, in their order."""
    return [(GENES[a], GENES[b], int(c)) for a, b, c in zip(pairs.gene_a, pairs.gene_b, pairs.label, strict=True)]


@given(st.integers(2, 30))
def test_all_pairs_are_every_unordered_pair_once(n_genes):
    pairs = all_pairs(n_genes)
    assert len(pairs) == n_genes * (n_genes - 1) // 2
    assert (pairs.gene_a < pairs.gene_b).all()
    assert len(set(zip(pairs.gene_a.tolist(), pairs.gene_b.tolist(), strict=True))) == len(pairs)
    assert set(pairs.label) == {-1}
    assert (pairs.gene_a.dtype, pairs.gene_b.dtype, pairs.label.dtype) == (np.int32, np.int32, np.int8)


@given(indices, indices)
def test_cross_pairs_are_every_regulator_with_every_other_target(regulators, targets):
    pairs = cross_pairs(regulators, targets)
    expected = {(a, b) for a in regulators.tolist() for b in targets.tolist() if a != b}
    found = list(zip(pairs.gene_a.tolist(), pairs.gene_b.tolist(), strict=True))
    assert set(found) == expected
    assert len(found) == len(expected)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5))))
def test_an_edge_is_labelled_in_its_own_direction_only(edges):
    pairs = cross_pairs(np.arange(6, dtype=np.int32), np.arange(6, dtype=np.int32))
    source, target = np.array(edges, np.int32).reshape(-1, 2).T
    labelled = label_edges(pairs, source, target, 6)
    expected = [(a, b) in set(edges) for a, b in zip(pairs.gene_a.tolist(), pairs.gene_b.tolist(), strict=True)]
    np.testing.assert_array_equal(labelled.label, np.array(expected, np.int8))


def test_all_genes():
    found = candidates(PairSource(all_pairs=True), GENES)
    assert len(found.pairs) == 10
    assert found.notes == ()


def test_listed_pairs_keep_order_direction_and_label(listed):
    file = listed("pairs.csv", "TAL1,GATA1,2\nGATA1,TAL1,1\nSPI1,KLF1,0\nKLF1,CEBPA,-1\n")
    found = candidates(PairSource(pairs=file), GENES)
    expected = [("TAL1", "GATA1", 2), ("GATA1", "TAL1", 1), ("SPI1", "KLF1", 0), ("KLF1", "CEBPA", -1)]
    assert rows(found.pairs) == expected
    assert found.notes == ("pairs.csv: 4 of 4 pairs have both genes in the matrix",)


def test_listed_pairs_without_labels(listed):
    found = candidates(PairSource(pairs=listed("p.txt", "TAL1 GATA1\nSPI1 KLF1\n")), GENES)
    assert rows(found.pairs) == [("TAL1", "GATA1", -1), ("SPI1", "KLF1", -1)]


def test_unknown_genes_are_left_out_and_counted(listed):
    found = candidates(PairSource(pairs=listed("p.csv", "TAL1,GATA1\nTAL1,NOPE\nNOPE,NADA\nSPI1,KLF1\n")), GENES)
    assert rows(found.pairs) == [("TAL1", "GATA1", -1), ("SPI1", "KLF1", -1)]
    assert found.notes == ("p.csv: 2 of 4 pairs have both genes in the matrix",)


def test_a_gene_with_itself_is_no_pair(listed):
    found = candidates(PairSource(pairs=listed("p.csv", "TAL1,TAL1\nSPI1,KLF1\n")), GENES)
    assert rows(found.pairs) == [("SPI1", "KLF1", -1)]


def test_repeated_pairs_count_once_and_the_first_mention_wins(listed):
    content = "SPI1,KLF1,0\nTAL1,GATA1,1\nSPI1,KLF1,1\nTAL1,GATA1,1\nSPI1,KLF1,0\nGATA1,TAL1,0\n"
    found = candidates(PairSource(pairs=listed("p.csv", content)), GENES)
    assert rows(found.pairs) == [("SPI1", "KLF1", 0), ("TAL1", "GATA1", 1), ("GATA1", "TAL1", 0)]
    assert "3 repeated pairs dropped, 1 of them with another label" in found.notes[1]


def test_symbols_name_genes_as_well_as_ids_do(listed):
    found = candidates(PairSource(pairs=listed("p.csv", "ENSG1,KLF1\nGATA1,ENSG3\n")), ["ENSG1", "ENSG2", "ENSG3"],
                       ["GATA1", "KLF1", "SPI1"])  # fmt: skip
    assert found.pairs.gene_a.tolist() == [0, 0]
    assert found.pairs.gene_b.tolist() == [1, 2]


def test_regulators_with_every_gene(listed):
    found = candidates(PairSource(regulators=listed("tf.txt", "SPI1\nGATA1\nNOPE\nSPI1\n")), GENES)
    assert {(a, b) for a, b, _ in rows(found.pairs)} == {(a, b) for a in ("SPI1", "GATA1") for b in GENES if a != b}
    assert len(found.pairs) == 8
    assert set(found.pairs.label) == {-1}
    assert found.notes == ("tf.txt: 2 of 3 regulators are in the matrix",)


def test_regulators_targets_and_a_network(listed):
    source = PairSource(
        regulators=listed("tf.csv", ",TF,index\n0,GATA1,1\n1,SPI1,2\n"),
        targets=listed("targets.txt", "KLF1\nGATA1\nNOPE\n"),
        network=listed("net.csv", "Gene1,Gene2\nGATA1,KLF1\nKLF1,SPI1\nSPI1,NOPE\nGATA1,KLF1\nTAL1,KLF1\n"),
    )
    found = candidates(source, GENES)
    assert rows(found.pairs) == [("GATA1", "KLF1", 1), ("SPI1", "GATA1", 0), ("SPI1", "KLF1", 0)]
    assert found.notes == (
        "tf.csv: 2 of 2 regulators are in the matrix",
        "targets.txt: 2 of 3 targets are in the matrix",
        "net.csv: 4 of 5 edges have both genes in the matrix; 1 of 3 candidates are edges",
    )


@pytest.mark.parametrize(("given_as", "content", "words"), [
    ("pairs", "a,b\nc,d\n", ["0 of the 4 genes", "without a match: a, c, b", "GATA1, KLF1, SPI1"]),
    ("regulators", "gata1\nspi1\n", ["0 of the 2 regulators", "case is ignored"]),
    ("pairs", "GATA1,x\ny,KLF1\n", ["no pair has both genes", "GATA1 and x"]),
    ("pairs", "GATA1,GATA1\n", ["no candidate pair is left"]),
])  # fmt: skip
def test_lists_that_leave_nothing_are_refused(given_as, content, words, listed, refuses):
    source = PairSource(**{given_as: listed("list.txt", content)})
    with refuses(*words):
        candidates(source, GENES)


@pytest.mark.parametrize("what", ["targets", "network"])
def test_the_file_without_a_match_is_named(what, listed, refuses):
    files = {"regulators": listed("tf.txt", "GATA1\n"), what: listed("wrong.csv", "gene_a,target\na,b\n")}
    with refuses("wrong.csv", "0 of the"):
        candidates(PairSource(**files), GENES)


@pytest.mark.parametrize(("fields", "words"), [
    ({}, ["0 sources of pairs", "--all-pairs"]),
    ({"pairs": "p", "all_pairs": True}, ["2 sources of pairs"]),
    ({"pairs": "p", "regulators": "r"}, ["2 sources of pairs"]),
    ({"all_pairs": True, "targets": "t"}, ["--targets and --network", "--regulators"]),
    ({"pairs": "p", "network": "n"}, ["--targets and --network"]),
    ({"all_pairs": True, "threshold": 0.0}, ["threshold is 0.0"]),
    ({"all_pairs": True, "threshold": 1.5}, ["threshold is 1.5"]),
])  # fmt: skip
def test_sources_that_contradict_are_refused(fields, words, refuses):
    with refuses(*words):
        PairSource(**fields)
