"""What gene names are taken for: kind, versions, species, and what a spreadsheet did to them."""

import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscape.pipeline.genes.describe import describe_names
from pairscape.pipeline.genes.lists import read_gene_map
from pairscape.pipeline.genes.names import mangled, originals, serial_originals

HUMAN = ["CTSH", "IL1B", "CLEC4E", "RPL23A", "CD81", "TLR2", "HLA-DRA", "MT-CO1", "SQSTM1", "RP11-34P13.3"]
MOUSE = ["Ctsh", "Il1b", "Clec4e", "Rpl23a", "Cd81", "Tlr2", "H2-K1", "mt-Co1", "Sqstm1", "2610305D13Rik"]
ENSG = [f"ENSG{i:011d}" for i in range(40)]
ENSMUSG = [f"ENSMUSG{i:011d}" for i in range(40)]
ENTREZ = ["7157", "672", "1956", "2064"]
FLIES = ["FBgn0000008", "FBgn0000014", "FBgn0000015"]


@pytest.mark.parametrize(
    ("genes", "kind", "species"),
    [
        (HUMAN, "symbol", ""),
        (MOUSE, "symbol", ""),
        (ENSG, "ensembl", "human"),
        ([f"{name}.{i}" for i, name in enumerate(ENSG)], "ensembl", "human"),
        (ENSMUSG, "ensembl", "mouse"),
        ([f"ENSDARG{i:011d}" for i in range(5)], "ensembl", "zebrafish"),
        ([f"ENSXYZG{i:011d}" for i in range(5)], "ensembl", "Ensembl's ENSXYZG"),
        (FLIES, "ensembl", "fruit fly"),
        (["YAL001C", "YBR020W"], "ensembl", "budding yeast"),
        (["AT1G01010", "ATMG00010"], "ensembl", "thale cress"),
        (ENTREZ, "entrez", ""),
        ([str(i) for i in range(50)], "other", ""),
        (["AAAGCCTGGCTAAC-1", "AAATTCGATGCACA-1"], "other", ""),
        (ENSG + ENSMUSG, "ensembl", "several"),
        (ENSG + ENSMUSG[:1], "ensembl", "human"),
        ([f"GRCh38_{name}" for name in HUMAN], "symbol", "human"),
        ([f"GRCh38_{name}" for name in HUMAN] + [f"mm10___{name}" for name in MOUSE], "symbol", "several"),
        ([f"hg19_{name}" for name in ENSG], "ensembl", "human"),
        (HUMAN[:8] + ENSG[:8], "mixed", "human"),
        (HUMAN[:8] + ENTREZ, "mixed", ""),
        ([], "other", ""),
        (["", " "], "other", ""),
    ],
)
def test_kind_and_species(genes: list[str], kind: str, species: str) -> None:
    found = describe_names(genes)
    assert (found.kind, found.species) == (kind, species)
    assert any(line.startswith("species: ") for line in found.lines()) == bool(species)
    assert found.mangled == {}
    assert sum(share.names for share in found.shares) + found.empty == found.names == len(genes)


def test_a_few_odd_names_do_not_make_a_list_mixed_and_are_counted() -> None:
    found = describe_names(HUMAN * 10 + ENSG[:2])
    assert found.kind == "symbol"
    assert [(share.kind, share.names, share.examples[0]) for share in found.shares] == [
        ("symbol", 100, "CTSH"),
        ("ensembl", 2, "ENSG00000000000"),
    ]
    assert "100 symbols (CTSH, IL1B, CLEC4E), 2 Ensembl ids (ENSG00000000000, ENSG00000000001)" in found.lines()[0]


def test_versions_are_counted() -> None:
    assert describe_names(ENSG).versioned == 0
    assert describe_names([*ENSG[:3], "ENSG00000000009.4", "RP11-34P13.3"]).versioned == 1
    all_of_them = describe_names([f"hg38_{name}.1" for name in ENSG])
    assert all_of_them.versioned == 40
    assert "; with versions" in all_of_them.lines()[0]


def test_symbols_beside_the_ids_are_counted() -> None:
    found = describe_names(ENTREZ, ["TP53", "HLA-A", "", "HLA-A"])
    assert (found.kind, found.named, found.shared_symbols) == ("entrez", 3, ("HLA-A",))
    assert "symbols beside them for 3 of 4" in found.lines()[0]
    assert found.lines()[1].endswith("1 (HLA-A)")


def test_repeated_and_empty_names_are_told_with_what_they_mean() -> None:
    found = describe_names(["TP53", "", "TP53", "EGFR", " ", "TP53"])
    assert (found.repeated, found.empty) == (("TP53",), 2)
    assert found.lines()[1:] == [
        "empty names: 2; no list finds these genes",
        "names that several genes bear: 1 (TP53)",
    ]


MANGLED = {
    "1-Mar": ("MARCHF1/MARCH1", "MTARC1/MARC1"),
    "2-Mar": ("MARCHF2/MARCH2", "MTARC2/MARC2"),
    "11-Mar": ("MARCHF11/MARCH11",),
    "03-MAR": ("MARCHF3/MARCH3",),
    "2-Sep": ("SEPTIN2/SEPT2",),
    "14-Sept": ("SEPTIN14/SEPT14",),
    "15-Sep": ("SELENOF/SEP15",),
    "1-Dec": ("DELEC1/DEC1",),
    "4-Oct": ("POU5F1/OCT4",),
    "Mar-01": ("MARCHF1/MARCH1", "MTARC1/MARC1"),
    "Sep-09": ("SEPTIN9/SEPT9",),
    "7. Mrz": ("MARCHF7/MARCH7",),
    "2006-09-02": ("SEPTIN2/SEPT2",),
    "2020-03-05 00:00:00": ("MARCHF5/MARCH5",),
}


@pytest.mark.parametrize(("name", "were"), MANGLED.items())
def test_what_a_spreadsheet_made_of_symbols(name: str, were: tuple[str, ...]) -> None:
    assert originals(name) == were
    found = describe_names([*HUMAN, name])
    assert found.mangled == {name: were}
    assert found.kind == "symbol"
    assert f"{name} ({' or '.join(were)})" in found.lines()[-1]
    assert "correct them in the source" in found.lines()[-1]


SOUND = ["sep-1", "mar-1", "MARCH1", "SEPT2", "DEC1", "13-Sep", "12-Mar", "30-Mar", "1-Jan", "Apr-01", "7SK",
         "2006-09-13", "2310009E13Rik", "2.31E+19", "Nkx2-1", "H2-K1", "2006-13-02", "3-xyz", ""]  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_sound_names_are_left_alone(name: str) -> None:
    assert originals(name) == ()


@pytest.mark.parametrize(
    ("number", "were"),
    [
        ("43891", ("MARCHF1/MARCH1", "MTARC1/MARC1")),  # 1 March 2020
        ("44076", ("SEPTIN2/SEPT2",)),  # 2 September 2020
        ("44077", ("SEPTIN3/SEPT3",)),
        ("44000", ()),  # in June
        ("7157", ()),
        ("99999", ()),
    ],
)
def test_days_as_serial_numbers_are_mangled_beside_symbols_only(number: str, were: tuple[str, ...]) -> None:
    assert serial_originals(number) == were
    assert mangled([*HUMAN, number]) == ({number: were} if were else {})
    assert mangled([*ENTREZ, number]) == {}


def test_serials_are_the_days_that_pandas_counts() -> None:
    for day in range(1, 12):
        serial = (pd.Timestamp(2021, 3, day) - pd.Timestamp(1899, 12, 30)).days
        assert serial_originals(str(serial))[0] == f"MARCHF{day}/MARCH{day}"


@given(st.permutations([*HUMAN, *ENSG[:5], "2-Mar", "TP53", "TP53", ""]))
def test_the_order_of_the_genes_changes_no_count(genes: list[str]) -> None:
    found, plain = describe_names(genes), describe_names(sorted(genes))
    assert (found.kind, found.species, found.empty, found.repeated, found.mangled) == (
        plain.kind,
        plain.species,
        plain.empty,
        plain.repeated,
        plain.mangled,
    )
    assert [(s.kind, s.names) for s in found.shares] == [(s.kind, s.names) for s in plain.shares]


@given(st.lists(st.text(max_size=12), max_size=30))
def test_any_text_is_described(genes: list[str]) -> None:
    found = describe_names(genes)
    assert sum(share.names for share in found.shares) + found.empty == len(genes)
    assert len(found.lines()) >= 1


# ---------------------------------------------------------------- names as published


@pytest.fixture(scope="module")
def published() -> Path:
    if "PAIRSCAPE_DATA" not in os.environ:
        pytest.skip("PAIRSCAPE_DATA is not set")
    return Path(os.environ["PAIRSCAPE_DATA"])


def first_column(path: Path) -> list[str]:
    return pd.read_csv(path, usecols=[0], dtype=str, keep_default_na=False).iloc[:, 0].tolist()


def test_mouse_cells_in_two_spellings_and_two_symbols_that_a_spreadsheet_took(published: Path) -> None:
    hayashi = describe_names(first_column(published / "mesc_hayashi" / "NormalizedData.csv"))
    assert (hayashi.kind, list(hayashi.mangled)) == ("symbol", ["2-Mar", "1-Sep"])
    beeline = describe_names(first_column(published / "beeline_mdc" / "ExpressionData.csv"))
    assert (beeline.kind, beeline.mangled) == ("symbol", {})


def test_cnncs_map_is_of_mouse_symbols_and_entrez_ids(published: Path) -> None:
    symbols, ids = zip(*read_gene_map(published / "cnnc_dendritic" / "sc_gene_list.txt"), strict=True)
    found = describe_names(ids, symbols)
    assert (found.kind, found.mangled) == ("entrez", {})
    assert len(found.shared_symbols) == 10
