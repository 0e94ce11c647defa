"""Kinds of dependence as labels: from the column `kind` of a list through the image store to its pictures."""

import numpy as np
import pytest
import zarr

from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.genes.lists import read_pairs
from pairscape.pipeline.genes.negatives import choose_negatives
from pairscape.pipeline.genes.pairs import candidates
from pairscape.pipeline.heatmaps.images import Images, open_images
from pairscape.pipeline.options import PairSource
from typed import run_command

NAMES = ("none", "rising", "falling", "threshold", "exclusive", "u-shaped", "opposite")
PLANTED = ("none", "linear", "falling", "threshold", "exclusive", "u-shaped", "simpson", "saturating")
GENES = [f"G{i}" for i in range(46)]


@pytest.fixture
def listed(tmp_path):
    """Writes a list of pairs G0 with G1, G2, … of these kinds, with the columns that are given."""

    def write(kinds, header="gene_a\tgene_b\tkind", labels=None):
        rows = [[f"G{i}", f"G{i + 1}", kind] for i, kind in enumerate(kinds)]
        rows = rows if labels is None else [[*row, str(label)] for row, label in zip(rows, labels, strict=True)]
        path = tmp_path / "list.tsv"
        path.write_text("\n".join([header, *map("\t".join, rows)]) + "\n")
        return path

    return write


def test_the_names_of_the_classes_are_a_contract():
    assert KINDS == NAMES


@pytest.mark.parametrize("labels", [None, [0, 1, 1, 1, 2, 1, 1, 1]])
def test_a_kind_is_its_place_among_the_kinds_by_either_name(labels, listed):
    path = listed(PLANTED, "gene_a\tgene_b\tkind" + "\tlabel" * (labels is not None), labels)
    found = candidates(PairSource(pairs=path, classes="kinds"), GENES)
    assert found.pairs.label.tolist() == [0, 1, 2, 3, 4, 5, 6, 1]
    assert found.pairs.label.dtype == np.int8
    assert found.pairs.class_names == NAMES
    assert "columns 'gene_a', 'gene_b', 'kind'" in found.notes[0]


def test_without_the_option_labels_are_the_labels_of_the_list(listed):
    path = listed(PLANTED, "gene_a\tgene_b\tkind\tlabel", [0, 1, 1, 1, 1, 1, 1, 1])
    found = candidates(PairSource(pairs=path), GENES)
    assert (found.pairs.label.tolist(), found.pairs.class_names) == ([0] + [1] * 7, ())


def test_an_unlabelled_row_stays_unlabelled(listed):
    path = listed(["none", "rising", "rising"], "gene_a\tgene_b\tkind\tlabel", [-1, -1, 1])
    assert read_pairs(path, kinds=True).label.tolist() == [-1, -1, 1]


@pytest.mark.parametrize(("kinds", "header", "labels", "words"), [
    (["none", "cubic"], "gene_a\tgene_b\tkind", None, ["kind 'cubic' in row 2", "u-shaped"]),
    (["none", ""], "gene_a\tgene_b\tkind", None, ["kind '' in row 2"]),
    (["none", "3"], "gene_a\tgene_b\tkind", None, ["kind '3' in row 2"]),
    (["none", "rising"], "gene_a\tgene_b\tshape", None, ["no column 'kind'", "--classes kinds"]),
    (["none", "rising"], "G44\tG45\trising", None, ["no column 'kind'"]),
    (["none", "rising"], "gene_a\tgene_b\tkind\tlabel", [0, 0], ["row 2", "label 0 and kind 'rising'", "contradict"]),
    (["none", "none"], "gene_a\tgene_b\tkind\tlabel", [1, 0], ["row 1", "label 1 and kind 'none'"]),
    (["none", "rising"], "gene_a\tgene_b\tkind\tlabel", [0, 5], ["label '5' in row 2"]),
])  # fmt: skip
def test_lists_that_name_no_kinds_are_refused(kinds, header, labels, words, listed, refuses):
    with refuses("list.tsv", *words):
        candidates(PairSource(pairs=listed(kinds, header, labels), classes="kinds"), GENES)


@pytest.mark.parametrize(("second", "kind", "refused"), [
    ("G0\tG1", "falling", True), ("G1\tG0", "falling", True), ("G0\tG1", "linear", False), ("G1\tG0", "rising", False),
])  # fmt: skip
def test_a_pair_is_of_one_kind_either_way_round(second, kind, refused, tmp_path, refuses):
    path = tmp_path / "list.tsv"
    path.write_text(f"gene_a\tgene_b\tkind\nG5\tG6\tnone\nG0\tG1\trising\n{second}\t{kind}\n")
    source = PairSource(pairs=path, classes="kinds")
    if refused:
        with refuses("list.tsv", "as rising and as falling", "G0", "G1"):
            candidates(source, GENES)
    else:
        assert set(candidates(source, GENES).pairs.label) == {0, 1}


@pytest.mark.parametrize(("options", "words"), [
    ({"classes": "sorts", "all_pairs": True}, ["'sorts'", "labels or kinds"]),
    ({"classes": "kinds", "all_pairs": True}, ["--pairs FILE"]),
    ({"classes": "kinds", "pairs": "x.tsv", "labels": "replicate"}, ["no other --labels"]),
])  # fmt: skip
def test_kinds_without_a_list_are_refused(options, words, refuses):
    with refuses(*words):
        PairSource(**options)


def test_no_negative_is_matched_as_if_falling_were_an_edge_told_backwards(tmp_path):
    path = tmp_path / "list.tsv"
    rows = ["A\tC\tfalling", "B\tD\tfalling", "A\tD\tnone", "B\tC\tnone"]
    path.write_text("\n".join(["gene_a\tgene_b\tkind", *rows]))
    source = PairSource(pairs=path, classes="kinds", negatives="matched")
    chosen = choose_negatives(candidates(source, list("ABCD")), source, 4, 0)
    assert chosen.pairs.label.tolist() == [2, 2, 0, 0]
    assert "2 matched to 2 positives" in chosen.notes[-1]


@pytest.fixture
def counted(listed, expression_path, tmp_path):
    """Counts the images of a list, with options; returns the store."""

    def count(name, *options, kinds=PLANTED):
        path = listed(kinds, "gene_a\tgene_b\tkind\tlabel", [int(kind != "none") for kind in kinds])
        given = ["--pairs", path, "--scheduler", "synchronous", "--quiet", *options]
        assert run_command("heatmaps", expression_path, tmp_path / name, *given) == 0
        return open_images(tmp_path / name)

    return count


def labels_by_name(images: Images) -> list[int]:
    """Labels in the order of gene a: G0, G1, …"""
    gene = images.array("gene")[images.array("gene_a")]
    return images.array("label")[np.argsort([int(name[1:]) for name in gene])].tolist()


def test_kinds_and_their_names_are_in_the_store(counted, tmp_path):
    images = counted("kinds.zarr", "--classes", "kinds")
    assert labels_by_name(images) == [0, 1, 2, 3, 4, 5, 6, 1]
    assert images.class_names == images.pairs().class_names == NAMES
    assert zarr.open_group(str(images.path), mode="r").attrs["class_names"] == list(NAMES)
    assert images.provenance["pairs"]["classes"] == "kinds"
    assert run_command("verify", images.path) == 0
    assert run_command("show", images.path, "G6", "G5", "-o", tmp_path / "p.png") == 0


def test_a_store_of_labels_is_another_and_says_nothing_of_classes(counted):
    kinds, labels = ("none", "rising"), counted("labels.zarr", kinds=("none", "rising"))
    other = counted("kinds.zarr", "--classes", "kinds", kinds=kinds)
    assert labels_by_name(labels) == labels_by_name(other) == [0, 1]
    assert (labels.class_names, other.class_names) == ((), NAMES)
    assert "class_names" not in zarr.open_group(str(labels.path), mode="r").attrs
    assert "classes" not in labels.provenance["pairs"]
    assert labels.spec.plan_hash != other.spec.plan_hash


def test_a_store_of_kinds_is_repaired_to_the_same_bytes(counted):
    images = counted("kinds.zarr", "--classes", "kinds")
    damaged = [images.path / "counts/c/0/0/0", images.path / "zarr.json", images.path / "label/c/0"]
    whole = [path.read_bytes() for path in damaged]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    assert run_command("verify", images.path) == 1
    assert run_command("verify", images.path, "--repair") == 0
    assert [path.read_bytes() for path in damaged] == whole
