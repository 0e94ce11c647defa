"""Gene names: what they look like, and how a list of them is found in a matrix."""

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.genes import id_kind, looks_like_barcodes, looks_like_genes, require_matches, resolve

HUMAN = ["CTSH", "IL1B", "CLEC4E", "RPL23A", "CD81", "TLR2", "HLA-DRA", "MT-CO1", "SQSTM1", "RP11-34P13.3"]
MOUSE = ["Ctsh", "Il1b", "Clec4e", "Rpl23a", "Cd81", "Tlr2", "H2-K1", "mt-Co1", "Sqstm1", "2610305D13Rik"]
ENSEMBL = [f"ENSG{i:011d}" for i in range(10)]
VERSIONED = [f"ENSMUSG{i:011d}.{i}" for i in range(10)]
ENTREZ = ["7157", "672", "1956", "2064"]
CELLS = {
    "10x": ["AAAGCCTGGCTAAC-1", "AAATTCGATGCACA-1", "GCGAGAAGTTCTGGTA"],
    "10x with sample": ["donor1_AAAGCCTGGCTAAC-1", "donor2#AAATTCGATGCACA-1", "s3:GCGAGAAGTTCTGGTA"],
    "plate": ["RamDA_mESC_00h_A04", "RamDA_mESC_00h_B12", "LPS_1h_S10"],
    "accession": ["GSM1599500", "SRR1234567_1", "ERR0001234"],
    "counted": ["cell12", "Cell_7", "cell 3"],
}


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (HUMAN, "symbol"),
        (MOUSE, "symbol"),
        (ENSEMBL, "ensembl"),
        (VERSIONED, "ensembl"),
        (["FBgn0000008", "FBgn0000014"], "ensembl"),
        (ENTREZ, "entrez"),
        ([str(i) for i in range(50)], "other"),
        ([str(i) for i in range(5000)], "other"),
        (CELLS["10x"], "other"),
        ([], "other"),
    ],
)
def test_id_kind(names: list[str], kind: str) -> None:
    assert id_kind(names) == kind


@pytest.mark.parametrize("names", [HUMAN, MOUSE, ENSEMBL, VERSIONED, [f"GRCh38_{g}" for g in HUMAN]])
def test_genes_look_like_genes(names: list[str]) -> None:
    assert looks_like_genes(names)
    assert not looks_like_barcodes(names)


@pytest.mark.parametrize("names", CELLS.values(), ids=CELLS)
def test_cells_look_like_barcodes(names: list[str]) -> None:
    assert looks_like_barcodes(names)
    assert not looks_like_genes(names)


@pytest.mark.parametrize("names", [["a", "b"], ["0", "1", "2"], ["patient A", "patient B"], ["TCGA", "BRCA"], []])
def test_other_names_look_like_neither(names: list[str]) -> None:
    assert not looks_like_genes(names)
    assert not looks_like_barcodes(names)


def test_ids_come_before_symbols() -> None:
    found = resolve(["S1", "E0", "missing", "E1"], genes=["E0", "E1", "S1"], symbols=["S1", "S2", "S3"])
    np.testing.assert_array_equal(found.index, [2, 0, -1, 1])
    assert (found.matched, found.unmatched, found.ambiguous) == (3, ("missing",), ())


def test_a_name_of_two_genes_is_left_to_the_user() -> None:
    found = resolve(["TBCE", "E2"], genes=["E0", "E1", "E2"], symbols=["TBCE", "TBCE", ""])
    np.testing.assert_array_equal(found.index, [-1, 2])
    assert (found.ambiguous, found.unmatched, found.matched) == (("TBCE",), (), 1)


def test_an_empty_name_matches_no_gene_without_symbol() -> None:
    assert resolve([""], genes=["E0"], symbols=[""]).matched == 0


@pytest.mark.parametrize(
    ("names", "genes", "symbols", "cells", "expected"),
    [
        (["GATA1", "SPI1"], ["Gata1", "Spi1"], None, None, "2 of them match if case is ignored"),
        (["ENSG00000000003"], ["ENSG00000000003.15"], None, None, "1 of them match without the version"),
        (ENSEMBL, HUMAN, None, None, "the names are Ensembl ids while the matrix has symbols"),
        (HUMAN, ENSEMBL, None, None, 'var["symbol"]'),
        (ENTREZ, HUMAN, None, None, "the names are Entrez ids while"),
        (["c1", "c2"], HUMAN, None, ["c1", "c2"], "is it transposed?"),
        ([" GATA1"], ["GATA1"], None, None, "without the spaces"),
        (["NOPE1"], HUMAN, None, None, ""),
        (HUMAN[:1], HUMAN, None, None, ""),
    ],
)
def test_hints(
    names: list[str], genes: list[str], symbols: list[str] | None, cells: list[str] | None, expected: str
) -> None:
    hint = resolve(names, genes, symbols, cells).hint
    assert expected in hint
    assert bool(hint) == bool(expected)


def test_nothing_matched_is_refused_in_one_line() -> None:
    found = resolve(["GATA1", "SPI1", "MYB", "KLF1"], ["E0", "E1", "E2", "E3"], ["Gata1", "", "Myb", "Klf1"])
    with pytest.raises(InputError) as refused:
        require_matches(found, "regulators", file="tfs.txt")
    message = str(refused.value)
    assert "\n" not in message
    for part in ("0 of the 4 regulators of tfs.txt", "GATA1, SPI1, MYB", "E0 (Gata1), E1, E2 (Myb)", "case is ignored"):
        assert part in message


def test_only_ambiguous_names_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="borne by several genes: TBCE"):
        require_matches(resolve(["TBCE"], ["E0", "E1"], ["TBCE", "TBCE"]))


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(InputError, match=r"no targets of t\.txt"):
        require_matches(resolve([], ["E0"]), "targets", file="t.txt")


def test_minimum_share() -> None:
    found = resolve(["A", "B", "C"], ["A", "X"])
    require_matches(found)
    with pytest.raises(InputError, match="1 of the 3 genes"):
        require_matches(found, minimum=0.5)
