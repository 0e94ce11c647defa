"""Modules: planted ones are found, each file says the same and opens with what reads it, mistakes are refused."""

import json
import sys

import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pairscape.model.edges.edges import Edges, choose_edges
from pairscape.model.edges.modules import find_modules
from pairscape.model.edges.scores import write_scores
from pairscape.model.options import EdgeChoice
from pairscape.pipeline.errors import InputError
from typed import run_command

igraph = pytest.importorskip("igraph")
SIZES = (9, 6, 4)


def planted(path, names=None, symbols=None, score=None, facts=None, q=True):
    """All pairs of genes in modules of 9, 6 and 4: high scores within one, a few between."""
    rng = np.random.default_rng(0)
    member = np.repeat(np.arange(3), SIZES)
    names = np.array(names or [f"G{i:02}" for i in range(member.size)], object)
    a, b = np.triu_indices(member.size, 1)
    same = member[a] == member[b]
    likely = np.where(same, rng.uniform(0.8, 1, a.size), rng.uniform(0, 0.6, a.size)) if score is None else score
    found = {
        "gene_a": names[a], "gene_b": names[b],
        "label": np.full(a.size, -1, np.int8), "score": likely.astype(np.float32),
        "dependence": np.ones(a.size, np.float32),
        "correlation": np.where(same, 0.6, -0.1).astype(np.float32),
    }  # fmt: skip
    if q:
        found |= {"kind": np.where(same, "rising", "falling"), "q_value": np.where(likely > 0.5, 0.01, 0.3)}
    if symbols is not None:
        found |= {"symbol_a": np.array(symbols, object)[a], "symbol_b": np.array(symbols, object)[b]}
    write_scores(path, [pa.table(found)], list(found), {"prior": 0.1, **(facts or {})})
    return path


@pytest.fixture
def scores(tmp_path):
    return planted(tmp_path / "s.parquet")


def read_gmt(path):
    """As gseapy, decoupler and clusterProfiler do: fields between tabs, the first two are name and description."""
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    return {name: set(genes) for name, _, *genes in lines}


def test_planted_modules_are_found_and_every_file_says_the_same(scores, tmp_path, capsys):
    assert run_command("modules", scores, tmp_path / "m") == 0
    told = capsys.readouterr().out
    assert "3 modules of 19 genes (0 in none)" in told
    assert "module 1: 9 genes, hubs G0" in told
    assert "expected to be wrong" in told
    frame = pd.read_csv(tmp_path / "m/modules.tsv", sep="\t")
    assert list(frame) == ["gene", "symbol", "module", "degree", "strength", "module_strength", "is_hub"]
    assert dict(zip(frame.gene, frame.module, strict=True)) == {f"G{i:02}": 1 + (i >= 9) + (i >= 15) for i in range(19)}
    assert frame.groupby("module").is_hub.sum().tolist() == [1, 1, 1]
    assert frame.groupby("module").module_strength.apply(lambda own: own.is_monotonic_decreasing).all()
    sets = read_gmt(tmp_path / "m/modules.gmt")
    assert sets == {f"module_{k}": set(part.gene) for k, part in frame.groupby("module")}
    graph = nx.read_graphml(tmp_path / "m/network.graphml")
    assert {gene: known["module"] for gene, known in graph.nodes(data=True)} == dict(
        zip(frame.gene, frame.module, strict=True)
    )
    assert {gene: graph.degree(gene) for gene in graph} == dict(zip(frame.gene, frame.degree, strict=True))
    for a, b, known in graph.edges(data=True):
        inside = graph.nodes[a]["module"] == graph.nodes[b]["module"]
        assert known.get("within_module") == (graph.nodes[a]["module"] if inside else None)
        assert known["kind"] == ("rising" if inside else "falling")
    other = igraph.Graph.Read_GraphML(str(tmp_path / "m/network.graphml"))
    assert sorted(zip(other.vs["id"], other.vs["module"], strict=True)) == sorted(
        zip(frame.gene, frame.module, strict=True)
    )
    assert b"module 1" in (tmp_path / "m/network.svg").read_bytes() or (tmp_path / "m/network.svg").stat().st_size


@pytest.mark.parametrize("name", ["a.tsv", "a.gmt", "a.graphml", "folder"])
def test_the_same_seed_gives_the_same_bytes(scores, tmp_path, name):
    """Also in place of what is there; any other generator goes on undisturbed."""
    held = []
    for _ in range(2):
        assert run_command("modules", scores, tmp_path / name, "--overwrite", "--quiet", "--seed", "3") == 0
        paths = [tmp_path / name] if "." in name else sorted((tmp_path / name).glob("m*"))
        held.append([path.read_bytes() for path in paths])
    assert held[0] == held[1]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_strength_and_degree_are_what_networkx_sums(scores):
    found = find_modules(choose_edges(scores, EdgeChoice(threshold=0.4)))
    graph = nx.Graph()
    graph.add_weighted_edges_from(
        zip(found.edges.source.tolist(), found.edges.target.tolist(), found.weight.tolist(), strict=True)
    )
    module = dict(zip(found.code.tolist(), found.module.tolist(), strict=True))
    for row, gene in enumerate(found.code.tolist()):
        own = sum(known["weight"] for other, known in graph[gene].items() if module[other] == module[gene])
        assert found.degree[row] == graph.degree(gene)
        assert found.strength[row] == pytest.approx(graph.degree(gene, weight="weight"))
        assert found.own_strength[row] == pytest.approx(own)


def test_where_scores_tie_the_correlation_weighs(tmp_path):
    """All pairs score the same, and all are called: what tells the modules apart is the correlation."""
    n = 19 * 18 // 2
    path = planted(tmp_path / "s.parquet", score=np.full(n, 0.997))
    edges = choose_edges(path, EdgeChoice(), ("correlation",))
    found = find_modules(edges)
    assert (found.weighed_by, len(found)) == ("correlation", 3)
    assert len(find_modules(edges, weighed_by="score")) == 1
    found = find_modules(edges, resolution=2.2)
    assert len(found) != 3 or (found.module == 0).any()


def graph(*pairs, directed=False):
    source, target = np.array(pairs, np.int32).T
    size = int(max(source.max(), target.max())) + 1
    weight = np.linspace(1, 0.5, source.size).astype(np.float32)
    return Edges(tuple(f"g{i}" for i in range(size)), source, target, weight, {}, directed)


@pytest.mark.parametrize(("edges", "sizes"), [
    (graph((0, 1)), [2]),
    (graph((0, 1), (2, 3), (4, 5)), [2, 2, 2]),
    (graph((0, 1), (1, 0), directed=True), [2]),
    (graph((0, 1), (1, 2), (2, 0), (5, 6)), [3, 2]),
    (graph((3, 3), (0, 1)), [2]),
])  # fmt: skip
def test_parts_that_hang_together(edges, sizes):
    found = find_modules(edges)
    assert np.bincount(found.module)[1:].tolist() == sizes
    assert len(found.edges) == len({frozenset(pair) for pair in zip(edges.source, edges.target, strict=True)} - {
        frozenset((gene,)) for gene in edges.source
    })  # fmt: skip


HOSTILE = ['<script>alert("x")</script>', "a,b", "'quoted'", "$x$", "ünï & co", "NA"]


def test_names_of_any_letters_come_back(tmp_path):
    names = [*HOSTILE, *(f"G{i:02}" for i in range(13))]
    path = planted(tmp_path / "s.parquet", names)
    assert run_command("modules", path, tmp_path / "m", "--quiet") == 0
    frame = pd.read_csv(tmp_path / "m/modules.tsv", sep="\t", keep_default_na=False)
    sets, read = read_gmt(tmp_path / "m/modules.gmt"), nx.read_graphml(tmp_path / "m/network.graphml")
    assert set(frame.gene) == set.union(*sets.values()) == set(read) == set(names)


@pytest.mark.parametrize("suffix", ["tsv", "gmt", "graphml"])
def test_a_tab_in_a_name_is_kept_or_refused(tmp_path, suffix, capsys):
    names = ["a\tb", *(f"G{i:02}" for i in range(18))]
    path = planted(tmp_path / "s.parquet", names)
    done = run_command("modules", path, tmp_path / f"m.{suffix}")
    if suffix == "tsv":
        assert done == 0
        assert "a\tb" in set(pd.read_csv(tmp_path / "m.tsv", sep="\t").gene)
    else:
        assert done == 2
        assert "control character" in capsys.readouterr().err
        assert not (tmp_path / f"m.{suffix}").exists()


def test_sets_have_symbols_once(tmp_path):
    """Two genes of one symbol are one entry; a gene without one is named by its id."""
    symbols = ["TP53", "TP53", None, *(f"S{i}" for i in range(16))]
    path = planted(tmp_path / "s.parquet", symbols=symbols)
    assert run_command("modules", path, tmp_path / "m.gmt", "--quiet") == 0
    lines = (tmp_path / "m.gmt").read_text().splitlines()
    assert sorted(lines[0].split("\t")[2:]) == sorted(["TP53", "G02", *(f"S{i}" for i in range(6))])
    assert run_command("modules", path, tmp_path / "m.gmt", "--quiet", "--overwrite", "--names", "id") == 0
    assert "G00" in (tmp_path / "m.gmt").read_text()


BAD = {
    "a suffix": (["m.csv"], ["suffix", ".gmt"]),
    "a resolution": (["m", "--resolution", "0"], ["resolution is 0"]),
    "each alone": (["m", "--resolution", "1000"], ["every gene is alone", "lower"]),
    "no number": (["m", "--resolution", "nan"], ["resolution is nan"]),
    "none left": (["m", "--kind", "opposite"], ["none of its pairs is left"]),
    "a q-value": (["m", "--max-q", "2"], ["max_q is 2"]),
    "it exists": (["there.tsv"], ["exists", "--overwrite"]),
    "a folder": (["folder.gmt"], ["is a folder"]),
    "a file": (["file"], ["is a file"]),
    "the scores": (["s.parquet"], ["suffix"]),
    "not ours": (["there.tsv", "--overwrite"], ["did not make it"]),
    "not ours in a folder": (["thesis", "--overwrite"], ["thesis.txt"]),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_refused_and_nothing_is_written(scores, tmp_path, name, capsys):
    (tmp_path / "there.tsv").write_text("name\tgrade\n")
    (tmp_path / "folder.gmt").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.txt").write_text("years")
    before = sorted(tmp_path.rglob("*"))
    arguments, words = BAD[name]
    assert run_command("modules", scores, tmp_path / arguments[0], *arguments[1:]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert all(word in told for word in words), told
    assert sorted(tmp_path.rglob("*")) == before


def test_without_igraph_it_is_said_how_to_get_it(scores, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "igraph", None)
    assert run_command("modules", scores, tmp_path / "m") == 2
    assert "pip install 'pairscape[modules]'" in capsys.readouterr().err


def test_a_correlation_that_is_not_there_weighs_nothing(scores):
    with pytest.raises(InputError, match="weights by correlation"):
        find_modules(choose_edges(scores, EdgeChoice()), weighed_by="correlation")


def test_without_a_choice_it_is_what_the_report_calls(tmp_path, capsys):
    """By q-value where there are any, of a network of kinds; else by the threshold that the report counts from."""
    assert run_command("modules", planted(tmp_path / "k.parquet"), tmp_path / "a.tsv") == 0
    assert "max q 0.05" in capsys.readouterr().out
    thresholds = {"thresholds": {"precision 0.5": 0.85}}
    plain = planted(tmp_path / "p.parquet", q=False, facts=thresholds)
    assert run_command("modules", plain, tmp_path / "b.graphml") == 0
    assert "threshold 0.85" in capsys.readouterr().out
    assert json.dumps(nx.read_graphml(tmp_path / "b.graphml").graph["edges"]) == '"threshold 0.85"'
