"""Folds from a file place exactly what the file names, keep mirrors together, and say what they leave out."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_fixtures import curved_store, make_pairs
from pairscape.model.batches.fold_file import count_folds, given_folds, read_fold_file
from pairscape.model.batches.folds import TEST, TRAIN, UNUSED, VALIDATION
from pairscape.model.batches.store_folds import make_folds
from pairscape.model.options import Recipe, Splitting
from pairscape.pipeline.genes.pairs import all_pairs, cross_pairs
from pairscape.pipeline.genes.resolve import Vocabulary

GENES = ["A", "B", "C", "D", "E", "F"]
NAMES = {UNUSED: "unused", TRAIN: "train", VALIDATION: "validation", TEST: "test"}


def place(tmp_path, text, pairs, directed=True, list_row=None, **options):
    """Fold of each pair by name, and the notes."""
    file = tmp_path / "folds.csv"
    file.write_text(text, encoding="utf-8")
    splitting = Splitting("file", fold_file=file, **options)
    folds, notes = given_folds(pairs, Vocabulary(GENES), splitting, directed, list_row)
    return [NAMES[fold] for fold in folds.tolist()], notes


def regulators_by_targets():
    """A, B, C, each with D, E, F."""
    pairs = cross_pairs(np.arange(3, dtype=np.int32), np.arange(3, 6, dtype=np.int32))
    pairs.label[:] = [1, 0, 0] * 3
    return pairs


DELAY = "\ufeff,Split\r\nA,1\r\nB,2\r\nC,3\r\n"


@pytest.mark.parametrize(("fold", "roles"), [
    (None, ["test", "validation", "train"]),
    (0, ["test", "validation", "train"]),
    (1, ["train", "test", "validation"]),
    (2, ["validation", "train", "test"]),
])  # fmt: skip
@pytest.mark.parametrize("header", [DELAY, DELAY.replace(",Split", "TF,fold"), DELAY.replace(",", "\t")])
def test_a_numbered_fold_is_the_test_and_the_next_one_validation(tmp_path, fold, roles, header):
    found, notes = place(tmp_path, header, regulators_by_targets(), fold=fold)
    assert found == np.repeat(roles, 3).tolist()
    assert notes == ("folds.csv: 3 of 3 genes are in the store; the regulator decides on a pair",)


def test_a_gene_places_the_pairs_of_which_both_genes_are_in_a_fold(tmp_path):
    pairs = all_pairs(6)
    pairs.label[:] = 0
    text = "gene,fold\nA,test\nB,test\nC,validation\nD,train\nE,train\n"
    found, notes = place(tmp_path, text, pairs, directed=False)
    told = dict(zip(zip(pairs.gene_a.tolist(), pairs.gene_b.tolist(), strict=True), found, strict=True))
    assert {pair for pair, fold in told.items() if fold == "test"} == {(0, 1)}
    assert {pair for pair, fold in told.items() if fold == "train"} == {(3, 4)}
    assert {pair for pair, fold in told.items() if fold == "validation"} == {(2, 3), (2, 4)}
    assert notes[1] == (
        "folds.csv: 5 of 15 labelled pairs are in no fold of the file and stay unused (A–F, B–F, C–F, …)"
    )


def test_a_nameless_column_means_both_genes_where_pairs_have_no_direction(tmp_path):
    pairs = all_pairs(3)
    pairs.label[:] = 0
    text = ",Split\nA,train\nB,train\nC,test\n"
    assert place(tmp_path, text, pairs, directed=False)[0] == ["train", "unused", "unused"]
    assert place(tmp_path, text, pairs, directed=True)[0] == ["train", "train", "train"]


def test_a_target_decides_where_the_header_says_so(tmp_path):
    found, _ = place(tmp_path, "target,fold\nD,train\nE,validation\nF,test\n", regulators_by_targets())
    assert found == ["train", "validation", "test"] * 3


def test_genes_without_a_fold_and_names_without_a_gene_are_told(tmp_path):
    found, notes = place(tmp_path, "TF,fold\nA,train\nC,test\nX1,test\nX2,train\n", regulators_by_targets())
    assert found == np.repeat(["train", "unused", "test"], 3).tolist()
    assert "2 of 4 genes are in the store; not in it: X1, X2" in notes[0]
    assert "3 of 9 labelled pairs" in notes[1]
    assert "(B–D, B–E, B–F)" in notes[1]


def test_names_match_as_those_of_the_store_did(tmp_path):
    file = tmp_path / "folds.csv"
    file.write_text("TF,fold\na,train\nb,validation\nc,test\n")
    pairs, splitting = regulators_by_targets(), Splitting("file", fold_file=file)
    folds, _ = given_folds(pairs, Vocabulary(GENES, ignore_case=True), splitting, True, None)
    assert folds.tolist() == np.repeat([TRAIN, VALIDATION, TEST], 3).tolist()


def test_a_pair_places_its_mirror_too(tmp_path):
    pairs = make_pairs([0, 1, 2, 3, 4], [1, 0, 3, 2, 5], [1, 2, 0, 0, 0])
    text = "gene_a,gene_b,set\nA,B,train\nD,C,test\nE,X,test\n"
    found, notes = place(tmp_path, text, pairs)
    assert found == ["train", "train", "test", "test", "unused"]
    assert "2 of 3 pairs have both genes in the store" in notes[0]
    assert "1 of 5 labelled pairs" in notes[1]


def test_mirrors_that_a_file_tears_apart_lose_the_row_nearer_to_training(tmp_path):
    pairs = make_pairs([0, 1, 2], [1, 0, 3], [1, 1, 0])
    found, notes = place(tmp_path, "gene_a,gene_b,fold\nA,B,train\nB,A,test\nC,D,train\n", pairs)
    assert found == ["unused", "test", "train"]
    assert notes[-1] == "folds.csv: 1 pairs are left out, as the file puts their mirror nearer to the test"


def test_regulators_in_two_folds_lose_the_mirrors_nearer_to_training(tmp_path):
    pairs = make_pairs([0, 1, 0, 1], [1, 0, 3, 3], [1, 1, 0, 0])
    found, notes = place(tmp_path, "TF,fold\nA,train\nB,test\n", pairs)
    assert found == ["unused", "test", "train", "test"]
    assert "1 pairs are left out" in notes[-1]


def test_an_unlabelled_mirror_tears_nothing(tmp_path):
    pairs = make_pairs([0, 1], [1, 0], [1, -1])
    for text in ("TF,fold\nA,train\nB,test\n", "gene_a,gene_b,fold\nA,B,train\nB,A,test\n"):
        assert place(tmp_path, text, pairs)[0] == ["train", "unused"]


def test_a_division_places_the_rows_of_the_list_block_by_block(tmp_path):
    """CNNC: three folds of neighbouring blocks, here of blocks of 2, 1, 3 and 1 rows."""
    pairs = make_pairs([3, 0, 1, 0, 2, 1], [4, 1, 0, 2, 5, 4], [0, 1, 2, 0, 1, 0])
    list_row = np.array([6, 0, 1, 2, 4, 3], np.int32)  # of seven rows, one has an unknown gene
    division = "0\n2\n3\n6\n7\n"
    found, notes = place(tmp_path, division, pairs, list_row=list_row, folds=4, fold=1)
    assert found == ["train", "train", "train", "test", "validation", "validation"]
    assert notes == ("folds.csv: 4 of 4 blocks of the list are in the store",)
    joined, _ = place(tmp_path, division, pairs, list_row=list_row, folds=3, fold=0)
    assert joined == ["train", "test", "test", "test", "validation", "validation"]


def test_folds_are_counted(tmp_path):
    for text, count in ((DELAY, 3), ("gene,fold\nA,test\nB,train\n", None), ("0\n2\n5\n9\n", 3)):
        (tmp_path / "f.csv").write_text(text, encoding="utf-8")
        assert count_folds(tmp_path / "f.csv") == count


@given(data=st.data())
def test_any_table_of_pairs_is_followed_and_keeps_mirrors_together(data, tmp_path_factory):
    entries = data.draw(st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 5)), st.integers(0, 2), min_size=1))
    asked = {(a, b): fold for (a, b), fold in entries.items() if a != b}
    rows = data.draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda r: r[0] != r[1])))
    rows = list(dict.fromkeys([*rows, *list(asked)[:1]]))
    if not asked:
        return
    lines = [f"{GENES[a]},{GENES[b]},{('train', 'validation', 'test')[fold]}" for (a, b), fold in asked.items()]
    pairs = make_pairs(*zip(*rows, strict=True), [0] * len(rows))
    text = "\n".join(["gene_a,gene_b,fold", *lines, ""])
    found, _ = place(tmp_path_factory.mktemp("fold"), text, pairs)
    given_to = [asked.get((a, b), asked.get((b, a), UNUSED)) for a, b in rows]
    nearest = {frozenset(row): fold for fold, row in sorted(zip(given_to, rows, strict=True))}
    expected = [fold if fold == nearest[frozenset(row)] else UNUSED for fold, row in zip(given_to, rows, strict=True)]
    assert found == [NAMES[fold] for fold in expected]


BAD = {
    "missing": (None, ["no such file"]),
    "empty": ("", ["empty"]),
    "no fold": ("gene,group\nA,1\nB,2\n", ["['gene', 'group']", "column named fold"]),
    "two folds": ("fold,fold\n1,1\n", ["column named fold"]),
    "no rows": ("gene,fold\n", ["0 rows"]),
    "no gene column": ("x,y,fold\nA,B,1\n", ["['x', 'y']", "gene_a and gene_b"]),
    "nameless row": ("gene,fold\nA,1\n,2\n", ["row 2", "no gene"]),
    "no fold in a row": ("gene,fold\nA,1\nB,\n", ["''", "row 2"]),
    "unknown word": ("gene,fold\nA,train\nB,held out\n", ["'held out'", "train, validation, test"]),
    "both kinds": ("gene,fold\nA,1\nB,test\n", ["'test'", "beside '1'"]),
    "a fraction": ("gene,fold\nA,0.5\nB,1\n", ["'0.5'"]),
    "below zero": ("gene,fold\nA,-1\nB,1\n", ["'-1'"]),
    "a division that falls": ("0\n5\n3\n", ["one column", "rise from 0"]),
    "a division from one": ("1\n5\n9\n", ["rise from 0"]),
    "a list of genes": ("A\nB\n", ["one column"]),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_none_are_refused(name, tmp_path, refuses):
    text, words = BAD[name]
    file = tmp_path / "folds.csv"
    if text is not None:
        file.write_text(text)
    with refuses("folds.csv", *words):
        read_fold_file(file)


@pytest.mark.parametrize(("text", "options", "words"), [
    ("TF,fold\nX,1\nY,2\nZ,3\n", {}, ["0 of the 3 genes", "X, Y, Z"]),
    ("TF,fold\nA,1\nA,2\nB,3\n", {}, ["puts A into fold 1 and into 2"]),
    ("gene_a,gene_b,fold\nA,D,1\nA,D,2\nB,D,3\n", {}, ["puts A–D into fold 1 and into 2"]),
    ("gene_a,gene_b,fold\nA,B,train\nD,E,test\n", {}, ["none of its 2 pairs is in the store"]),
    ("TF,fold\nA,1\nB,2\n", {}, ["has 2 folds", "need 3"]),
    (DELAY, {"folds": 4}, ["has 3 folds", "fold 0 of 4"]),
    (DELAY, {"fold": 3}, ["fold 3 of 3"]),
    ("TF,fold\nA,train\nB,test\n", {"folds": 3}, ["one split", "--folds"]),
    ("0\n2\n5\n9\n", {}, ["come from none", "--pairs LIST"]),
])  # fmt: skip
def test_files_that_do_not_fit_are_refused(text, options, words, tmp_path, refuses):
    with refuses("folds.csv", *words):
        place(tmp_path, text, regulators_by_targets(), **options)


def test_the_division_of_another_list_is_refused(tmp_path, refuses):
    with refuses("9 rows", "10 or more"):
        place(tmp_path, "0\n2\n5\n9\n", regulators_by_targets(), list_row=np.arange(1, 10, dtype=np.int32))


# ---------------------------------------------------------------- in a store


def test_a_division_follows_its_rows_into_the_store(tmp_path, tmp_path_factory):
    images = curved_store(tmp_path_factory.getbasetemp())
    listed = pd.read_csv(images.path.with_name("pairs.csv"))
    (tmp_path / "list_num.txt").write_text("0\n900\n1800\n2916\n")
    recipe = Recipe(splitting=Splitting("file", fold_file=tmp_path / "list_num.txt", fold=1))
    folds = make_folds(images, recipe, seed=0)
    gene = images.array("gene")
    for rows, block in (
        (folds.test, slice(900, 1800)),
        (folds.validation, slice(1800, 2916)),
        (folds.train, slice(900)),
    ):
        found = set(zip(gene[folds.pairs.gene_a[rows]], gene[folds.pairs.gene_b[rows]], strict=True))
        assert found == set(zip(listed["gene_a"][block], listed["gene_b"][block], strict=True))
    assert folds.notes == ("list_num.txt: 3 of 3 blocks of the list are in the store",)


# ---------------------------------------------------------------- files as published


@pytest.fixture(scope="module")
def published():
    if "PAIRSCAPE_DATA" not in os.environ:
        pytest.skip("PAIRSCAPE_DATA is not set")
    return Path(os.environ["PAIRSCAPE_DATA"])


def test_delays_split_labels_are_five_folds_of_regulators(published):
    file = read_fold_file(published / "mesc_hayashi" / "splitLabels.csv")
    assert (file.folds, len(file.genes[0]), file.side) == (("1", "2", "3", "4", "5"), 125, "")
    assert np.bincount(file.group).tolist() == [25] * 5


def test_cnncs_division_has_a_block_for_each_of_sixteen_regulators(published):
    file = read_fold_file(published / "cnnc_dendritic" / "dendritic_gene_pairs_200_num.txt")
    assert file.starts is not None
    assert (len(file.folds), int(file.starts[-1])) == (16, 44_148)
