"""What names look like: gene ids of some kind, symbols, cells."""

import pytest

from pairscape.pipeline.genes.names import (
    kind_of,
    looks_like_barcodes,
    looks_like_genes,
    without_genome,
    without_version,
)

HUMAN = ["CTSH", "IL1B", "CLEC4E", "RPL23A", "CD81", "TLR2", "HLA-DRA", "MT-CO1", "SQSTM1", "RP11-34P13.3"]
MOUSE = ["Ctsh", "Il1b", "Clec4e", "Rpl23a", "Cd81", "Tlr2", "H2-K1", "mt-Co1", "Sqstm1", "2610305D13Rik"]
ENSEMBL = [f"ENSG{i:011d}" for i in range(10)]
VERSIONED = [f"ENSMUSG{i:011d}.{i}" for i in range(10)]
CELLS = {
    "10x": ["AAAGCCTGGCTAAC-1", "AAATTCGATGCACA-1", "GCGAGAAGTTCTGGTA"],
    "10x with sample": ["donor1_AAAGCCTGGCTAAC-1", "donor2#AAATTCGATGCACA-1", "s3:GCGAGAAGTTCTGGTA"],
    "plate": ["RamDA_mESC_00h_A04", "RamDA_mESC_00h_B12", "LPS_1h_S10"],
    "accession": ["GSM1599500", "SRR1234567_1", "ERR0001234"],
    "counted": ["cell12", "Cell_7", "cell 3"],
}


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


@pytest.mark.parametrize(
    ("name", "kind", "bare"),
    [
        ("ENSG00000000003.15", "ensembl", "ENSG00000000003"),
        ("ENSMUSG00000051951", "ensembl", "ENSMUSG00000051951"),
        ("AT1G01010.1", "ensembl", "AT1G01010"),
        ("AC004556.1", "symbol", "AC004556.1"),
        ("RP11-34P13.3", "symbol", "RP11-34P13.3"),
        ("2010107e04rik", "symbol", "2010107e04rik"),
        ("7157", "entrez", "7157"),
        ("AAAGCCTGGCTAAC-1", "other", "AAAGCCTGGCTAAC-1"),
        ("a name", "other", "a name"),
        ("", "other", ""),
    ],
)
def test_a_name_alone(name: str, kind: str, bare: str) -> None:
    assert (kind_of(name), without_version(name)) == (kind, bare)
    assert (kind_of(f"GRCh38_{name}"), without_genome(f"mm10___{name}")) == (kind, name)
