"""Lists against a matrix: what is found and how, what is said of it, and what is refused in one line."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscape.pipeline.genes.pairs import candidates
from pairscape.pipeline.genes.resolve import Resolution, Vocabulary
from pairscape.pipeline.options import PairSource

HUMAN = ["GATA1", "KLF1", "SPI1", "TAL1", "CEBPA", "HLA-DRA", "ZNF10", "MT-CO1"]
MOUSE = ["Gata1", "Klf1", "Spi1", "Tal1", "Cebpa", "H2-K1", "Zfp10", "mt-Co1"]
ENSG = [f"ENSG{i:011d}" for i in range(8)]


def found_of(names, genes, symbols=None, **options) -> Resolution:
    return Vocabulary(genes, symbols, **options).resolve(names)


# ---------------------------------------------------------------- what is found


def test_ids_come_before_symbols_and_both_at_once_is_told():
    found = found_of(["S1", "E0", "missing", "E1", "S1"], ["E0", "E1", "S1"], ["S1", "S2", "S3"])
    np.testing.assert_array_equal(found.index, [2, 0, -1, 1, 2])
    assert (found.names, found.matched, found.unmatched, found.ambiguous) == (4, 3, ("missing",), ())
    assert found.also_symbols == ("S1",)
    assert found.found_by == {"id": 3}
    assert found_of(["A"], ["A", "B"], ["A", "B"]).also_symbols == ()


def test_a_name_of_two_genes_is_left_to_the_user():
    found = found_of(["TBCE", "E2"], ["E0", "E1", "E2"], ["TBCE", "TBCE", ""])
    np.testing.assert_array_equal(found.index, [-1, 2])
    assert (found.ambiguous, found.unmatched, found.matched) == (("TBCE",), (), 1)


def test_an_empty_name_is_no_gene_without_symbol():
    assert found_of(["", "x"], ["E0", ""], ["", ""]).matched == 0


@pytest.mark.parametrize(("names", "genes", "index", "by"), [
    (["ENSG00000000003.5"], ["ENSG00000000003"], [0], {"version": 1}),
    (["ENSG00000000003"], ["ENSG00000000003.15"], [0], {"version": 1}),
    (["ENSG00000000003.5"], ["ENSG00000000003.15"], [0], {"version": 1}),
    (["ENSG00000000003.15"], ["ENSG00000000003", "ENSG00000000003.15"], [1], {"id": 1}),
    (["ENSG00000000003"], ["ENSG00000000003.1", "ENSG00000000003.2"], [-1], {}),
    (["AC004556.1"], ["AC004556.3"], [-1], {}),
    (["AT1G01010.1"], ["AT1G01010"], [0], {"version": 1}),
])  # fmt: skip
def test_versions_of_ensembl_ids_are_no_hindrance_where_one_gene_is_left(names, genes, index, by):
    found = found_of(names, genes)
    assert (found.index.tolist(), found.found_by) == (index, by)


def test_two_versions_of_one_gene_are_ambiguous():
    assert found_of(["ENSG00000000003.7"], ["ENSG00000000003.1", "ENSG00000000003.2"]).ambiguous == (
        "ENSG00000000003.7",
    )


def test_translations_are_counted_by_their_way():
    genes, aliases = ["2623.5", "ENSG00000000003.4", "Spi1"], (("KLF1", "ENSG00000000003"), ("gata", "2623.5"))
    found = found_of(["KLF1", "SPI1", "GATA", "Spi1"], genes, aliases=aliases, ignore_case=True)
    assert found.index.tolist() == [1, 2, 0, 2]
    assert found.found_by == {"map": 2, "case": 1, "id": 1}
    assert found.report("genes") == (
        "4 of 4 genes are in the matrix; matched through the gene map: 2; matched in another case: 1"
    )
    assert found_of(["SPI1"], genes).matched == 0


def test_the_report_says_everything_with_examples():
    genes = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003", "ENSG00000000004", "X"]
    names = ["ENSG00000000001.9", "TBCE", "X", "N1", "N2", "N3", "N4", "2-Sep", "N1"]
    found = found_of(names, genes, ["TBCE", "TBCE", "", "X", "Y"])
    assert found.report("regulators", "store") == (
        "2 of 8 regulators are in the store; not in it: N1, N2, N3; made into dates by a spreadsheet: 2-Sep "
        "(SEPTIN2/SEPT2); borne by several genes, so left out: TBCE; ids that are also symbols of other genes, taken "
        "as ids: X; matched without the version after the dot: 1"
    )


# ---------------------------------------------------------------- what holds for any list

names = st.lists(st.sampled_from([*HUMAN, *ENSG, "2-Mar", "NOPE"]), min_size=1, max_size=12)
versions = st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=8, max_size=8)


def with_version(name, version):
    return name if version is None or not name.startswith("ENSG") else f"{name}.{version}"


@given(names, st.permutations(range(8)), st.booleans())
def test_the_order_of_the_genes_changes_nothing(asked, order, ignore_case):
    symbols = [*HUMAN[:6], "GATA1", ""]  # one symbol of two genes
    plain = found_of(asked, ENSG, symbols, ignore_case=ignore_case)
    turned = found_of(asked, [ENSG[i] for i in order], [symbols[i] for i in order], ignore_case=ignore_case)
    assert [order[i] if i >= 0 else -1 for i in turned.index] == plain.index.tolist()
    assert turned.report("genes") == plain.report("genes")


@given(names, versions, versions)
def test_versions_change_nothing(asked, of_matrix, of_list):
    genes = [with_version(name, version) for name, version in zip(ENSG, of_matrix, strict=True)]
    versioned = [with_version(name, of_list[ENSG.index(name)] if name in ENSG else None) for name in asked]
    plain, found = found_of(asked, ENSG, HUMAN), found_of(versioned, genes, HUMAN)
    assert found.index.tolist() == plain.index.tolist()
    assert (found.matched, found.ambiguous) == (plain.matched, plain.ambiguous)


@given(names)
def test_ignoring_case_and_a_map_only_add(asked):
    plain = found_of(asked, HUMAN[:5])
    more = found_of(asked, HUMAN[:5], ignore_case=True, aliases=(("NOPE", "TAL1"), ("KLF1", "SPI1")))
    assert all(new == old for new, old in zip(more.index, plain.index, strict=True) if old >= 0)


@given(names)
def test_names_are_counted_once_and_add_up(asked):
    found = found_of([*asked, *asked], HUMAN[:4])
    assert found.names == len(set(asked)) == found.matched + len(found.unmatched) + len(found.ambiguous)
    assert sum(found.found_by.values()) == found.matched


# ---------------------------------------------------------------- what is refused


def source_of(folder, given_as, content, **options):
    path = folder / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    files = {given_as: path}
    if given_as in ("targets", "network"):
        (folder / "tf.txt").write_text("\n".join(options.pop("regulators")))
        files["regulators"] = folder / "tf.txt"
    return PairSource(**files, **options)


def lines(names):
    return "\n".join(names) + "\n"


UPPER, LOWER = [f"TF{chr(65 + i)}" for i in range(20)], [f"tf{chr(97 + i)}" for i in range(20)]
CELLS = ["AAAGCCTGGCTAAC-1", "AAATTCGATGCACA-1", "GCGAGAAGTTCTGGTA-1"]
VERSIONED_MOUSE = [f"ENSMUSG{i:011d}.{i}" for i in range(8)]

# kind of list, content, genes of the matrix, what the error says: counts, examples of both sides, the cause, the flag
BAD = {
    "human list, mouse matrix": ("regulators", lines(HUMAN[:5]), MOUSE, [
        "0 of the 5 regulators of", "without a match: GATA1, KLF1, SPI1", "the matrix has: Gata1, Klf1, Spi1",
        "5 of them match if case is ignored", "--ignore-case"]),
    "mouse list, human matrix": ("regulators", lines(MOUSE[:5]), HUMAN, ["0 of the 5", "--ignore-case"]),
    "a few match, most by case": ("regulators", lines(["SPI1", *MOUSE[:3]]), HUMAN, [
        "1 of the 4 regulators", "(25.0%), fewer than 50%", "3 of them match if case is ignored", "--min-matched 0"]),
    "mouse ids, human matrix": ("regulators", lines(VERSIONED_MOUSE), ENSG, [
        "0 of the 8", "the names are Ensembl ids of mouse while the matrix has Ensembl ids of human",
        "--gene-map"]),
    "mouse ids, human symbols and ids": ("targets", lines(["ENSG00000000001", *VERSIONED_MOUSE]), ENSG, [
        "1 of the 9 targets", "Ensembl ids of mouse", "--min-matched 0"]),
    "Ensembl ids, symbols": (
        "regulators", lines(ENSG), HUMAN, ["the names are Ensembl ids of human while the matrix has symbols"]),
    "symbols, Ensembl ids": (
        "regulators", lines(HUMAN), ENSG, ["are symbols while the matrix has Ensembl ids", 'var["symbol"]']),
    "Entrez ids, symbols": (
        "regulators", lines(["7157", "672", "1956"]), HUMAN, ["are Entrez ids while", "--gene-map"]),
    "a transposed matrix": (
        "regulators", lines(HUMAN), CELLS, ["check that both are of one species"]),
    "a list of cells": ("regulators", lines(CELLS), HUMAN, ["check that both are of one species"]),
    "a mixed reference": (
        "regulators", lines(HUMAN), [f"GRCh38_{name}" for name in HUMAN], ["without a genome's prefix"]),
    "BOM and CRLF do no harm": ("regulators", "\ufeff" + "\r\n".join(LOWER), UPPER, [
        "0 of the 20", "without a match: tfa, tfb, tfc", "20 of them match if case"]),
    "the wrong column": ("regulators", "".join(f"{i},{name}\n" for i, name in enumerate(HUMAN)), HUMAN, [
        "0 of the 8", "the first column of the list names"]),
    "the wrong columns of pairs": (
        "pairs", "".join(f"row{i},GATA1,{name},0\n" for i, name in enumerate(HUMAN[1:])), HUMAN, [
        "is none of -1"]),
    "the wrong columns of a network": (
        "network", "".join(f"e{i},{i}x,GATA1,{n}\n" for i, n in enumerate(HUMAN[1:])), HUMAN, [
        "0 of the 14 genes", "the first column of the list"]),
    "one column of two": ("pairs", "".join(f"GATA1,{name}\n" for name in ENSG), HUMAN, [
        "1 of the 9 genes", "the names are Ensembl ids of human while"]),
    "a list on its side": ("regulators", ",".join(HUMAN), HUMAN, ["one row of 8 names", "one gene a line"]),
    "dates": ("regulators", lines(["1-Mar", "2-Mar", "2-Sep", "GATA1", "43891"]), HUMAN, [
        "1 of the 5 regulators", "4 of them were made into dates", "1-Mar (MARCHF1/MARCH1 or MTARC1/MARC1)"]),
    "a small matrix": ("regulators", lines(UPPER), UPPER[:6], [
        "6 of the 20", "(30.0%)", "filtered out", "--min-matched 0"]),
    "a network of another matrix": ("network", lines(f"{name},GATA1" for name in UPPER), HUMAN, [
        "1 of the 21 genes", "list.csv", "filtered out"]),
    "pairs of another matrix": ("pairs", lines(f"{a},{b}" for a, b in pairwise(UPPER)), [*HUMAN, *LOWER[:14]], [
        "0 of the 20 genes", "14 of them match if case"]),
    "strangers": ("targets", lines(["NOPE1", "NOPE2", "GATA1"]), [*HUMAN, "x", "y"], [
        "1 of the 3 targets", "check that both are of one species", "filtered out"]),
    "several genes each": (
        "regulators", "TBCE\n", ["TBCE", "TBCE"], ["0 of the 1", "borne by several genes: TBCE", "by id"]),
    "an empty list": (
        "regulators", "gene\n", HUMAN, ["no regulators of", "the list is empty", "one gene name per line"]),
    "UTF-16": ("regulators", "\n".join(HUMAN).encode("utf-16"), HUMAN, ["cannot be read as a text table"]),
    "a workbook": (
        "regulators", b"PK\x03\x04\x14\x00\x06\x00\x08\x00\xd0\xcf\x11\xe0", HUMAN, ["cannot be read as a text"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_lists_are_refused_in_one_line_with_the_cause(name, tmp_path, refuses):
    given_as, content, genes, words = BAD[name]
    options = {"regulators": genes[:2]} if given_as in ("targets", "network") else {}
    with refuses("list.csv", *words):
        candidates(source_of(tmp_path, given_as, content, **options), genes)


@pytest.mark.parametrize("name", [name for name, (_, _, _, words) in BAD.items() if "--min-matched 0" in words])
def test_what_matches_is_taken_where_that_is_asked_for(name, tmp_path):
    given_as, content, genes, _ = BAD[name]
    options = {"regulators": genes[:2]} if given_as in ("targets", "network") else {}
    found = candidates(source_of(tmp_path, given_as, content, **options, min_matched=0.0), genes)
    assert len(found.pairs)


@pytest.mark.parametrize("given_as", ["regulators", "targets", "network", "pairs"])
@pytest.mark.parametrize(("share", "enough"), [(0.5, True), (0.51, False)])
def test_the_share_is_of_distinct_names_of_each_list(given_as, share, enough, tmp_path, refuses):
    """Two of four names, however often they are repeated; half is enough where half is asked for."""
    content = "GATA1,KLF1\n" * 5 + "N1,N2\n" if given_as in ("network", "pairs") else "GATA1\nKLF1\nGATA1\nN1\nN2\n"
    options = {"regulators": ["GATA1"]} if given_as in ("targets", "network") else {}
    source = source_of(tmp_path, given_as, content, min_matched=share, **options)
    if enough:
        assert len(candidates(source, HUMAN).pairs)
        return
    with refuses("2 of the 4", "(50.0%), fewer than 51%", "without a match: N1, N2", "--min-matched 0"):
        candidates(source, HUMAN)


@pytest.mark.parametrize("content", [
    "GATA1\nKLF1\n",
    "\ufeffGATA1\r\nKLF1\r\n",
    "gene;score\nGATA1;0,5\nKLF1;1,0\n",
    "GATA1;0,5\nKLF1;1,0\n",
    '"GATA1"\t1\n"KLF1"\t2\n',
    " GATA1 \n\n KLF1\n",
])  # fmt: skip
def test_lists_as_spreadsheets_save_them(content, tmp_path):
    found = candidates(source_of(tmp_path, "regulators", content), HUMAN)
    assert found.pairs.gene_a.tolist() == [0] * 7 + [1] * 7
    assert found.notes == ("list.csv: 2 of 2 regulators are in the matrix",)


def test_what_was_found_is_kept_as_facts(tmp_path):
    source = source_of(tmp_path, "network", "GATA1,KLF1\nN1,TBCE\n", regulators=["GATA1", "N2"])
    found = candidates(source, [*HUMAN, "E1", "E2"], [*HUMAN, "TBCE", "TBCE"])
    regulators, network = json.loads(json.dumps(found.lists))
    assert regulators == {
        "what": "regulators",
        "file": str(tmp_path / "tf.txt"),
        "names": 2,
        "matched": 1,
        "unmatched": 1,
        "ambiguous": 0,
        "found_by": {"id": 1},
        "unmatched_examples": ["N2"],
        "ambiguous_examples": [],
    }
    assert [network[key] for key in ("names", "matched", "unmatched", "ambiguous")] == [4, 2, 1, 1]
    assert (network["unmatched_examples"], network["ambiguous_examples"]) == (["N1"], ["TBCE"])
    assert candidates(PairSource(all_pairs=True), HUMAN).lists == ()
