"""Symbols and ids under the columns that tools give them, and columns of such names that hold something else."""

import numpy as np
import pandas as pd
import pytest

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.columns import name_genes
from pairscape.pipeline.genes.resolve import Vocabulary

SYMBOLS = ("GATA1", "KLF1", "SPI1", "TAL1", "CEBPA", "MYB")
IDS = tuple(f"ENSG{i:011d}" for i in range(6))
COUNTED = tuple("012345")


def var(index, **columns):
    return pd.DataFrame({name: list(column) for name, column in columns.items()}, index=pd.Index(index, dtype=object))


OF_SYMBOLS = [
    "symbol", "feature_name", "gene_symbols", "gene_name", "gene_names", "gene_symbol", "Symbol", "SYMBOL",
    "symbols", "gene_short_name", "features", "hgnc_symbol", "external_gene_name", "GeneSymbol", "gene.name",
    "Gene Symbol", "gene",
]  # fmt: skip
OF_IDS = ["gene_ids", "feature_id", "ensembl_id", "gene_id", "featureid", "Accession", "ENSEMBL", "ensembl_gene_id"]


@pytest.mark.parametrize("column", OF_SYMBOLS)
def test_symbols_are_found_beside_ids(column):
    named = name_genes(var(IDS, **{column: SYMBOLS}))
    assert (named.ids, named.symbols) == (IDS, SYMBOLS)
    house = column in ("symbol", "feature_name", "gene_symbols")
    assert named.notes == (() if house else (f"symbols of the genes: the column {column!r}",))


@pytest.mark.parametrize("column", OF_IDS)
def test_ids_beside_symbols_are_further_names(column):
    named = name_genes(var(SYMBOLS, **{column: IDS}))
    assert (named.ids, named.symbols, named.others) == (SYMBOLS, None, IDS)
    found = Vocabulary(named.ids, named.symbols, others=named.others).resolve([IDS[2], f"{IDS[3]}.7", "MYB"])
    assert found.index.tolist() == [2, 3, 5]


@pytest.mark.parametrize("column", OF_IDS)
@pytest.mark.parametrize("first", [0, 1])
def test_an_index_that_only_counts_gives_way_to_ids(column, first):
    counted = [str(i + first) for i in range(6)]
    named = name_genes(var(counted, feature_name=SYMBOLS, **{column: IDS}))
    assert (named.ids, named.symbols) == (IDS, SYMBOLS)
    assert named.notes == (f"genes are named by the column {column!r}: the names only count the genes",)


@pytest.mark.parametrize("column", OF_IDS[:4])
def test_repeated_symbols_give_way_to_ids(column):
    repeated = ("GATA1", "GATA1", *SYMBOLS[2:])
    named = name_genes(var(repeated, **{column: IDS}))
    assert (named.ids, named.symbols) == (IDS, repeated)
    assert "some genes have the same name" in named.notes[0]


NOT_SYMBOLS = {
    "numbers": [1.5, 2, 3, 4, 5, 6],
    "whole numbers": range(6),
    "numbers as text": ["7124", "3553", "1508", "975", "7097", "6772"],
    "flags": [True, False] * 3,
    "flags as text": ["True", "False"] * 3,
    "one word": ["Gene Expression"] * 6,
    "few words": ["protein_coding"] * 5 + ["lncRNA"],
    "a category": pd.Categorical(["chr1", "chr2"] * 3),
    "sentences": [f"the {i}th protein of something" for i in range(6)],
    "nothing": [None] * 6,
    "empty text": [""] * 6,
    "missing numbers": [np.nan] * 6,
    "dates": pd.date_range("2020", periods=6),
}


@pytest.mark.parametrize("column", ["features", "gene_name", "symbol", "name"])
@pytest.mark.parametrize("kind", NOT_SYMBOLS)
def test_a_column_that_holds_something_else_is_none_of_symbols(column, kind):
    named = name_genes(var(IDS, **{column: NOT_SYMBOLS[kind]}))
    assert (named.ids, named.symbols) == (IDS, None)
    beside = name_genes(var(IDS, **{column: NOT_SYMBOLS[kind], "gene_short_name": SYMBOLS}))
    assert beside.symbols == SYMBOLS


@pytest.mark.parametrize("missing", [None, np.nan, "", pd.NA])
def test_some_symbols_may_be_missing(missing):
    named = name_genes(var(IDS, gene_name=["GATA1", missing, "SPI1", missing, "CEBPA", "MYB"]))
    assert named.symbols == ("GATA1", "", "SPI1", "", "CEBPA", "MYB")


def test_a_column_of_ids_beside_symbols_holds_no_symbols():
    assert name_genes(var(SYMBOLS, gene=IDS)).symbols is None


@pytest.mark.parametrize(
    ("written", "read"),
    [('"GATA1"', "GATA1"), ("'GATA1'", "GATA1"), ('"GATA1', '"GATA1'), ("GATA1'", "GATA1'"), ("5'NT", "5'NT"),
     ("1000.0", "1000"), ("1000.5", "1000.5"), ("AC004556.1", "AC004556.1"), ("1000.00", "1000")],
)  # fmt: skip
def test_quotes_and_decimals_of_names(written, read):
    assert name_genes(var([written, "KLF1"])).ids == (read, "KLF1")


@pytest.mark.parametrize("genome", ["GRCh38_", "hg19_", "mm10___", "mm10_", "GRCm39______", "hg38_", "rn6_"])
def test_one_genome_before_every_name_is_left_out(genome):
    named = name_genes(var([genome + i for i in IDS], symbol=[genome + s for s in SYMBOLS]))
    assert (named.ids, named.symbols) == (IDS, SYMBOLS)
    assert named.notes == (f"{genome!r} before the name of every gene is left out",)


def test_two_genomes_tell_genes_apart():
    mixed = [*(f"GRCh38_{s}" for s in SYMBOLS[:3]), *(f"mm10___{s}" for s in SYMBOLS[:3])]
    assert name_genes(var(mixed)).ids == tuple(mixed)


def test_the_column_that_is_asked_for(refuses):
    odd = var(IDS, symbol=SYMBOLS[::-1], nickname=SYMBOLS)
    assert name_genes(odd, "nickname").symbols == SYMBOLS
    with refuses("--gene-column 'alias'", "symbol, nickname"):
        name_genes(odd, "alias")


@pytest.mark.parametrize("name", ["1000", "1000.0", "1000.00"])
@pytest.mark.parametrize("gene", ["1000", "1000.0"])
def test_entrez_ids_with_and_without_decimals(name, gene):
    assert Vocabulary([gene, "2000"]).resolve([name]).index.tolist() == [0]


def test_refusals_are_of_the_users_kind():
    with pytest.raises(InputError):
        name_genes(var(COUNTED), "absent")
