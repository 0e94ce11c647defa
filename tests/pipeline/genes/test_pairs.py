"""Candidate pairs: which are made, which are dropped, what is said about it, and where labels come from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscape.pipeline.genes.pairs import all_pairs, candidates, cross_pairs, label_edges
from pairscape.pipeline.options import PairSource

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
    assert found.pairs.list_row.tolist() == [0, 1, 2, 3]
    assert found.notes == (
        "pairs.csv: columns 1, 2, 3 (no header); 4 of 4 pairs have both genes in the matrix; "
        "5 of 5 genes are in the matrix",
        "pairs.csv: 1 pairs are listed in both directions",
    )


def test_listed_pairs_without_labels(listed):
    found = candidates(PairSource(pairs=listed("p.txt", "TAL1 GATA1\nSPI1 KLF1\n")), GENES)
    assert rows(found.pairs) == [("TAL1", "GATA1", -1), ("SPI1", "KLF1", -1)]


def test_unknown_genes_are_left_out_and_counted(listed):
    found = candidates(PairSource(pairs=listed("p.csv", "TAL1,GATA1\nTAL1,NOPE\nNOPE,NADA\nSPI1,KLF1\n")), GENES)
    assert rows(found.pairs) == [("TAL1", "GATA1", -1), ("SPI1", "KLF1", -1)]
    assert found.pairs.list_row.tolist() == [0, 3]
    assert found.notes == (
        "p.csv: columns 1, 2 (no header); 2 of 4 pairs have both genes in the matrix; 4 of 6 genes are in the matrix; "
        "not in it: NOPE, NADA",
    )


def test_a_gene_with_itself_is_no_pair(listed):
    found = candidates(PairSource(pairs=listed("p.csv", "TAL1,TAL1\nSPI1,KLF1\n")), GENES)
    assert rows(found.pairs) == [("SPI1", "KLF1", -1)]
    assert "1 pairs of a gene with itself dropped" in found.notes[1]


def test_repeated_pairs_count_once_and_the_first_mention_wins(listed):
    content = "SPI1,KLF1,0\nTAL1,GATA1,1\nSPI1,KLF1,1\nTAL1,GATA1,1\nSPI1,KLF1,0\nGATA1,TAL1,0\n"
    found = candidates(PairSource(pairs=listed("p.csv", content)), GENES)
    assert rows(found.pairs) == [("SPI1", "KLF1", 0), ("TAL1", "GATA1", 1), ("GATA1", "TAL1", 0)]
    assert "3 repeated pairs dropped, 1 of them with another label" in found.notes[1]
    assert found.pairs.list_row.tolist() == [0, 1, 5]


def test_rows_of_the_list_outlive_dropping_sorting_and_the_hash_knows_them(listed):
    """CNNC's division file counts rows of the list."""
    content = "TAL1,GATA1,1\nTAL1,NOPE,1\nSPI1,SPI1,0\nSPI1,KLF1,0\nSPI1,KLF1,0\nCEBPA,KLF1,0\n"
    pairs = candidates(PairSource(pairs=listed("p.csv", content)), GENES).pairs
    lines = content.splitlines()
    for a, b, row in zip(pairs.gene_a, pairs.gene_b, pairs.list_row, strict=True):
        assert lines[row].startswith(f"{GENES[a]},{GENES[b]},")
    assert pairs.list_row.tolist() == [0, 3, 5]
    later = candidates(PairSource(pairs=listed("q.csv", "\n".join(["NOPE,NADA,0", *lines]))), GENES).pairs
    assert later.content_hash() != pairs.content_hash()
    assert all_pairs(5).list_row is None


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
    assert found.notes == ("tf.txt: 2 of 3 regulators are in the matrix; not in it: NOPE",)


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
        "targets.txt: 2 of 3 targets are in the matrix; not in it: NOPE",
        "net.csv: columns 'gene1', 'gene2'; 4 of 5 edges have both genes in the matrix; 4 of 5 genes are in "
        "the matrix; not in it: NOPE; 1 of 3 candidates are edges",
        "net.csv: 1 repeated edges, counted once",
    )


def test_what_is_odd_in_a_network_is_said(listed):
    edges = "SPI1,SPI1\nSPI1,KLF1\nKLF1,SPI1\nSPI1,KLF1\nTAL1,SPI1\nSPI1,SPI1\n"
    found = candidates(PairSource(regulators=listed("tf.txt", "SPI1\n"), network=listed("n.csv", edges)), GENES)
    assert found.pairs.label.sum() == 1
    assert found.notes[-1] == (
        "n.csv: 2 edges of a gene to itself, which no candidate is; 1 repeated edges, counted once; 1 pairs of genes "
        "with an edge both ways"
    )


MAP = "gata1 2623\nklf1 10661\nspi1 6688\ntwice 10661\ntwice 6688\n"


@pytest.mark.parametrize(("genes", "options", "content"), [
    (["2623", "10661", "6688"], {"gene_map": MAP}, "gata1,klf1\nspi1,gata1\n"),  # as CNNC's own matrix has it
    (["gata1", "klf1", "spi1"], {"gene_map": MAP}, "2623,10661\nspi1,2623\n"),
    (["GATA1", "KLF1", "SPI1"], {"ignore_case": True}, "gata1,Klf1\nSpi1,GATA1\n"),
    (["GATA1", "KLF1", "SPI1"], {"gene_map": MAP, "ignore_case": True}, "2623,10661\nspi1,2623\n"),
    (["2623", "10661", "6688"], {"gene_map": MAP, "ignore_case": True}, "Gata1,KLF1\nSPI1,2623\n"),
])  # fmt: skip
def test_names_are_translated_where_that_is_asked_for(genes, options, content, listed):
    options = options | ({"gene_map": listed("map.txt", MAP)} if "gene_map" in options else {})
    found = candidates(PairSource(pairs=listed("p.csv", content), **options), genes)
    assert list(zip(found.pairs.gene_a.tolist(), found.pairs.gene_b.tolist(), strict=True)) == [(0, 1), (2, 0)]


def test_a_translation_that_fits_two_genes_is_none(listed):
    source = PairSource(pairs=listed("p.csv", "twice,2623\n10661,2623\n"), gene_map=listed("map.txt", MAP))
    found = candidates(source, ["2623", "10661", "6688"])
    assert found.pairs.list_row.tolist() == [1]
    either = candidates(PairSource(pairs=listed("q.csv", "abc,ABC\nd,abC\n"), ignore_case=True), ["abc", "ABC", "d"])
    assert either.pairs.list_row.tolist() == [0]
    assert "borne by several genes, so left out: twice" in found.notes[0]
    assert "borne by several genes, so left out: abC" in either.notes[0]


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
    ({"all_pairs": True, "labels": "replicate", "fdr": 0.0}, ["fdr is 0.0"]),
    ({"all_pairs": True, "labels": "replicate", "fdr": 0.1, "threshold": 0.3}, ["--fdr and --threshold"]),
    ({"all_pairs": True, "fdr": 0.1}, ["--fdr", "--labels replicate"]),
    ({"all_pairs": True, "image_cells": 100}, ["--image-cells", "--labels replicate"]),
    ({"all_pairs": True, "labels": "replicate", "image_cells": 1}, ["image cells is 1"]),
    ({"all_pairs": True, "min_matched": 1.5}, ["min matched is 1.5", "between 0 and 1"]),
    ({"all_pairs": True, "min_matched": -0.1}, ["min matched is -0.1"]),
    ({"all_pairs": True, "min_matched": float("nan")}, ["min matched is nan"]),
    ({"all_pairs": True, "negatives": "matched"}, ["--all-pairs has no labels"]),
    ({"pairs": "p", "negatives_per_positive": 0.0}, ["negatives per positive is 0"]),
    ({"pairs": "p", "negatives_per_positive": 1.0, "negatives": "matched"}, ["leave out --negatives-per-positive"]),
])  # fmt: skip
def test_sources_that_contradict_are_refused(fields, words, refuses):
    with refuses(*words):
        PairSource(**fields)
