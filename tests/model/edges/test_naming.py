"""Scores carry symbols, exports name genes by them, `show` finds either name; what is lost by that is said."""

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from anndata.io import write_elem

from pairscape.model.edges.edges import choose_edges
from pairscape.model.edges.evidence import scored_edge
from pairscape.model.edges.export import FORMATS, export_scores
from pairscape.model.edges.naming import by_symbol
from pairscape.model.edges.scores import read_symbols, write_scores
from pairscape.model.options import EdgeChoice
from portable_run import portable_run
from typed import run_command

IDS = [f"ENSG{i:011d}" for i in range(6)]
SYMBOLS = ["GATA1", "KLF1", "SPI1", "TAL1", "MYB", "LMO2"]
PAIRS = [(0, 1), (0, 2), (1, 2), (3, 4), (4, 5), (2, 5)]
SCORES = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
ALL = EdgeChoice(threshold=0)


def write(path, symbols=SYMBOLS, genes=IDS):
    a, b = np.array(PAIRS).T
    columns = {"gene_a": np.array(genes, object)[a], "gene_b": np.array(genes, object)[b]}
    if symbols is not None:
        named = np.array([symbol or None for symbol in symbols], object)
        columns |= {"symbol_a": named[a], "symbol_b": named[b]}
    rest = {name: np.array(SCORES, np.float32) for name in ("score", "dependence", "correlation")}
    found = pa.table(columns | {"label": np.zeros(6, np.int8)} | rest)
    write_scores(path, [found.slice(0, 4), found.slice(4)], found.column_names, {})
    return path


def said_of(path, target, **options):
    said = []
    export_scores(path, target, ALL, say=lambda *lines: said.extend(lines), **options)
    return said


def ends(target):
    """Names of the first edge, in whichever format."""
    if target.suffix == ".parquet":
        row = pq.read_table(target).to_pylist()[0]
        return row["source"], row["target"]
    text = target.read_text()
    if target.suffix == ".graphml":
        return ("GATA1", "KLF1") if 'source="GATA1"' in text else (IDS[0], IDS[1]) if f'"{IDS[0]}"' in text else ()
    return tuple(name for name in text.replace(",", "\t").replace("\n", "\t").split("\t") if name in {*IDS, *SYMBOLS})[
        :2
    ]


TEXT = {
    "scenic": "net.tsv", "beeline": "rankedEdges.csv", "decoupler": "net.csv", "cytoscape": "net.tsv",
    "sif": "net.sif", "graphml": "net.graphml", "parquet": "net.parquet",
}  # fmt: skip


@pytest.mark.parametrize("names", [None, "symbol", "id"])
@pytest.mark.parametrize("format", TEXT)
def test_every_format_names_genes_as_its_readers_expect(format, names, tmp_path):
    target = tmp_path / TEXT[format]
    assert said_of(write(tmp_path / "s.parquet"), target, format=format, names=names) == []
    expected = names or FORMATS[format].names
    assert ends(target) == (("GATA1", "KLF1") if expected == "symbol" else (IDS[0], IDS[1]))


def test_a_table_of_ids_has_the_symbols_beside_them(tmp_path):
    export_scores(write(tmp_path / "s.parquet"), tmp_path / "net.parquet", ALL)
    row = pq.read_table(tmp_path / "net.parquet").to_pylist()[0]
    assert [row[name] for name in ("source", "target", "source_symbol", "target_symbol")] == [*IDS[:2], *SYMBOLS[:2]]


WARNED = {
    "ids alone": (None, IDS, "warning: the scores have no symbols"),
    "Entrez ids alone": (None, ["7124", "3553", "1508", "975", "7097", "6772"], "warning: the scores have no symbols"),
    "symbols are the names": (None, SYMBOLS, ""),
    "one is missing": (["", *SYMBOLS[1:]], IDS, "genes without a symbol, named by their id: 1 (ENSG00000000000)"),
    "all are missing": ([""] * 6, IDS, "warning: the scores have no symbols"),
    "two genes of one symbol": (["X", "X", *SYMBOLS[2:]], IDS, "that several genes bear: 1 (X); 2 of their edges"),
    "three of one": (["X", "X", "X", *SYMBOLS[3:]], IDS, "that several genes bear: 1 (X); 3 of their edges"),
    "all have one": (SYMBOLS, IDS, ""),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_is_lost_by_symbols_is_said(name, tmp_path):
    symbols, genes, words = WARNED[name]
    said = said_of(write(tmp_path / "s.parquet", symbols, genes), tmp_path / "net.tsv")
    assert len(said) == bool(words), said
    assert words in " ".join(said)


def test_edges_of_genes_of_one_symbol_are_the_best_of_them(tmp_path):
    path = write(tmp_path / "s.parquet", ["X", "X", *SYMBOLS[2:]])
    edges, _ = by_symbol(choose_edges(path, EdgeChoice()))
    named = list(zip(edges.names(edges.source), edges.names(edges.target), edges.weight.tolist(), strict=True))
    first = [("X", "SPI1", 0.8), ("TAL1", "MYB", 0.6), ("MYB", "LMO2", 0.5), ("SPI1", "LMO2", 0.4)]
    assert named == [(a, b, pytest.approx(score)) for a, b, score in first]


@pytest.mark.parametrize(
    "pair", [("GATA1", "KLF1"), ("KLF1", "GATA1"), (IDS[0], "KLF1"), (IDS[0], IDS[1]), (f"{IDS[0]}.4", "KLF1")]
)
def test_a_pair_is_found_by_either_name(pair, tmp_path):
    edge = scored_edge(write(tmp_path / "s.parquet"), *pair)
    turned = pair[0] == "KLF1"
    assert edge.genes == ((IDS[1], IDS[0]) if turned else (IDS[0], IDS[1]))
    assert edge.labels(edge.source) == [SYMBOLS[turned]]
    assert edge.weight.tolist() == [pytest.approx(0.9)]


@pytest.mark.parametrize(
    ("symbols", "pair", "words"),
    [
        (SYMBOLS, ("GATA1", "FOXP3"), ["FOXP3", "no gene of this name", SYMBOLS[0]]),
        (SYMBOLS, ("GATA1", "LMO2"), ["holds no pair"]),
        (["X", "X", *SYMBOLS[2:]], ("X", "SPI1"), ["X is the symbol of several genes", IDS[0], IDS[1]]),
        (None, ("GATA1", "KLF1"), ["GATA1", "no gene of this name", IDS[0]]),
    ],
)
def test_a_pair_that_is_not_there(symbols, pair, words, tmp_path, refuses):
    with refuses(*words):
        scored_edge(write(tmp_path / "s.parquet", symbols), *pair)


def test_symbols_of_a_file_of_scores(tmp_path):
    known = ["", *SYMBOLS[1:]]
    assert read_symbols(write(tmp_path / "s.parquet", known)) == dict(zip(IDS, known, strict=True))
    assert read_symbols(write(tmp_path / "old.parquet", None)) == {}


def test_a_matrix_of_expression_keeps_its_names(tmp_path, refuses):
    path = write(tmp_path / "s.parquet")
    with refuses("--names symbol"):
        export_scores(path, tmp_path / "net.h5ad", ALL, names="symbol", expression=tmp_path / "e.zarr")


@pytest.mark.parametrize("named_by", ["feature_name", "gene_short_name", "nickname"])
def test_from_a_matrix_of_ids_to_a_network_of_symbols(named_by, tmp_path_factory, tmp_path, monkeypatch):
    """As cellxgene, monocle and somebody have it; the last is told where symbols are."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path_factory.getbasetemp()
    run = portable_run(root)
    shutil.copytree(root / "portable" / "expression.zarr", "m.zarr")
    group = zarr.open_group("m.zarr", mode="r+")
    n_genes = group["var/_index"].shape[0]
    symbols = [f"TFX{i}" for i in range(n_genes)]
    var = pd.DataFrame({named_by: symbols}, index=[f"ENSG{i:011d}" for i in range(n_genes)])
    write_elem(group, "var", var, dataset_kwargs={"shards": None})
    (tmp_path / "tf.txt").write_text("TFX1\nTFX4\n")
    column = ["--gene-column", "nickname"] if named_by == "nickname" else []
    command = ["predict", run, "m.zarr", "s.parquet", "--regulators", "tf.txt", "--scheduler", "synchronous", *column]
    assert run_command(*command, "--quiet") == 0
    table = pd.read_parquet("s.parquet")
    assert set(table["symbol_a"].astype(str)) == {"TFX1", "TFX4"}
    assert set(table["gene_a"].astype(str)) == {"ENSG00000000001", "ENSG00000000004"}
    assert run_command("export", "s.parquet", "net.tsv", "--top", "3") == 0
    assert "ENSG" not in (tmp_path / "net.tsv").read_text()
    assert run_command("show", "s.parquet", "TFX1", "TFX2", "-o", "p.png") == 0
