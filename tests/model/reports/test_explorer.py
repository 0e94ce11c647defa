"""The explorer without a browser: its answers against the file, its pictures against the counts, and who is refused."""

import csv
import io
import json
import socket
import subprocess
import sys
import urllib.request
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest

from explored import HOSTILE, N_CELLS, TYPES, encoded, facts_of, pairs_of, write_grouped, write_pairs
from pairscape import browse
from pairscape.model.reports.explorer import server
from pairscape.model.reports.explorer.opening import open_explorer
from pairscape.model.reports.explorer.page import in_script, page_script
from pairscape.model.reports.explorer.saved_page import saved_page
from pairscape.model.reports.explorer.table import ROWS_AT_ONCE, Wanted, read_table
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.heatmaps.count import count_pairs

GENES = [f"ENSG{i:03d}" for i in range(14)]
SYMBOLS = [f"SYM{i}" for i in range(12)] + ["", "SYM0"]  # one without, one that two genes bear


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("explored")


@pytest.fixture(scope="module")
def codes(folder):
    return encoded(folder, GENES, SYMBOLS)


@pytest.fixture(scope="module")
def scores(folder, codes):
    return write_pairs(folder / "scores.parquet", pairs_of(GENES, SYMBOLS), **facts_of(folder, codes))


@pytest.fixture(scope="module")
def explorer(scores):
    return open_explorer(scores, None, None, print)


@pytest.fixture(scope="module")
def frame(scores):
    return pairs_of(GENES, SYMBOLS).to_pandas()


def ask(explorer, path, **asked):
    answer = explorer.answer(path, {name: str(value) for name, value in asked.items()})
    told = json.loads(answer.content) if answer.kind == "application/json" else answer.content
    return answer.status, told


def told(explorer, path, **asked):
    status, words = ask(explorer, path, **asked)
    assert status == 200, words
    return words


# ── the pairs ────────────────────────────────────────────────────────────────────────────────────────────────────────

QUESTIONS = {
    "everything": ({}, lambda f: f),
    "a gene": ({"gene": 3}, lambda f: f[(f.gene_a == GENES[3]) | (f.gene_b == GENES[3])]),
    "score": ({"min_score": 0.25}, lambda f: f[f.score >= 0.25]),
    "q-value": ({"max_q": 0.5}, lambda f: f[f.q_value <= 0.5]),
    "kinds": ({"kind": "rising,u-shaped"}, lambda f: f[f.kind.isin(["rising", "u-shaped"])]),
    "sign": ({"sign": "-"}, lambda f: f[f.correlation < 0]),
    "new": ({"known": "new"}, lambda f: f[f.label <= 0]),
    "known": ({"known": "known", "sign": "+"}, lambda f: f[(f.label > 0) & (f.correlation > 0)]),
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    ("sort", "rising"), [("score", False), ("score", True), ("correlation", False), ("q_value", True)]
)
def test_pairs_are_those_of_the_file_in_order(explorer, frame, question, sort, rising):
    asked, chosen = QUESTIONS[question]
    by_score = chosen(frame).sort_values("score", ascending=False, kind="stable", na_position="last")
    expected = by_score.sort_values(sort, ascending=rising, kind="stable", na_position="last")
    found = told(explorer, "/pairs", **asked, sort=sort, count=1000, **({"rising": 1} if rising else {}))
    genes = explorer.table.genes
    assert found["total"] == len(expected)
    assert [(genes[a], genes[b]) for a, b in zip(found["a"], found["b"], strict=True)] == list(
        zip(expected.gene_a, expected.gene_b, strict=True)
    )
    assert [np.nan if v is None else v for v in found[sort]] == pytest.approx(
        expected[sort].tolist(), nan_ok=True, abs=1e-6
    )


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.7, 0.05, 1e-3])
def test_limits_keep_their_digits(tmp_path, limit):
    """As in `pairscape export`: a value that float32 rounded past a limit is beyond it."""
    near = np.float32(limit)
    values = pa.array(
        np.array([np.nextafter(near, np.float32(0)), near, np.nextafter(near, np.float32(1))] * 2, np.float32)
    )
    found = read_table(write_pairs(tmp_path / "s.parquet", pairs_of(GENES[:4], score=values, q_value=values)))
    exact = np.asarray(values).astype(np.float64)
    assert found.find(Wanted(min_score=limit), 0, 9)[0] == (exact >= limit).sum()
    assert found.find(Wanted(max_q=limit), 0, 9)[0] == (exact <= limit).sum()


def test_pages_of_a_list_join(explorer):
    whole = told(explorer, "/pairs", sort="correlation", count=50)["a"]
    parts = [told(explorer, "/pairs", sort="correlation", count=10, **{"from": at})["a"] for at in range(0, 50, 10)]
    assert [gene for part in parts for gene in part] == whole


def test_any_size_of_block_gives_the_same(scores, explorer, monkeypatch):
    from pairscape.model.reports.explorer import table as module

    small = read_table(scores)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    for sort, rising in (("score", False), ("correlation", True), ("q_value", False)):
        wanted = Wanted(min_score=0.1)
        found, expected = (t.find(wanted, 3, 20, sort, rising=rising) for t in (small, explorer.table))
        monkeypatch.setattr(module, "ROWS_AT_ONCE", ROWS_AT_ONCE)
        assert (found[0], found[1].tolist()) == (expected[0], expected[1].tolist())
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)


def test_a_pair_tells_all_that_the_file_says(explorer, frame):
    row = frame[frame.score.notna()].iloc[5]
    a, b = (explorer.table.number_of(gene) for gene in (row.gene_b, row.gene_a))
    found = told(explorer, "/pair", a=a, b=b)
    assert found["score"] == [pytest.approx(row.score, abs=1e-6)]
    assert found["more"]["kind_probability"] == pytest.approx(row.kind_probability, rel=1e-5)
    assert found["more"]["dependence"] == pytest.approx(row.dependence, rel=1e-5)


def test_the_neighbourhood_is_of_the_best_partners(explorer, frame):
    found = told(explorer, "/network", gene=3, partners=4)
    own = frame[(frame.gene_a == GENES[3]) | (frame.gene_b == GENES[3])].sort_values("score", ascending=False)[:4]
    partners = {*own.gene_a, *own.gene_b} - {GENES[3]}
    edges = [{explorer.table.genes[a], explorer.table.genes[b]} for a, b in zip(found["a"], found["b"], strict=True)]
    assert edges[:4] == [{a, b} for a, b in zip(own.gene_a, own.gene_b, strict=True)]
    assert 0 < len(edges[4:]) <= 8
    assert all(edge <= partners for edge in edges[4:])


def test_labels_are_symbols_told_apart(explorer):
    labels = dict(zip(explorer.table.genes, explorer.labels, strict=True))
    assert labels["ENSG001"] == "SYM1"
    assert labels["ENSG012"] == "ENSG012"
    assert (labels["ENSG000"], labels["ENSG013"]) == ("SYM0 (ENSG000)", "SYM0 (ENSG013)")


def test_columns_that_say_the_same_of_every_pair_are_left_out(folder):
    table = pairs_of(GENES, label=pa.array(np.full(91, -1, np.int8)), q_value=pa.array(np.full(91, 0.5, np.float32)))
    flat = open_explorer(write_pairs(folder / "flat.parquet", table), None, None, lambda *_: None)
    assert flat.words()["columns"] == ["kind", "correlation"]


def test_genes_without_a_pair_are_none_to_be_found(folder):
    """A dictionary of the file may name every gene of the matrix."""
    table = pairs_of(GENES)
    names = pa.array([*GENES, "UNUSED"])
    for column in ("gene_a", "gene_b"):
        index = pa.array([GENES.index(name) for name in table[column].to_pylist()], pa.int32())
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, pa.DictionaryArray.from_arrays(index, names))
    found = read_table(write_pairs(folder / "dictionary.parquet", table))
    assert sorted(found.genes) == GENES


def test_more_genes_than_two_bytes_can_number(folder, explorer, monkeypatch):
    monkeypatch.setattr("pairscape.model.reports.explorer.table.MOST_SHORT", 13)
    found = read_table(explorer.table.path)
    assert found.b.dtype == np.int32
    assert [found.genes[gene] for gene in found.b.tolist()] == [
        explorer.table.genes[g] for g in explorer.table.b.tolist()
    ]


BAD = {
    "gene beyond": ("/pairs", {"gene": 99}, "from 0 to 13"),
    "gene in words": ("/pairs", {"gene": "SYM1"}, "whole number"),
    "negative": ("/pairs", {"gene": "-1"}, "whole number"),
    "other digits": ("/pairs", {"gene": "٣"}, "whole number"),
    "endless number": ("/pairs", {"from": "9" * 400}, "whole number"),
    "too many": ("/pairs", {"count": 10**6}, "count"),
    "score above 1": ("/pairs", {"min_score": 1.5}, "from 0 to 1"),
    "score not a number": ("/pairs", {"min_score": "nan"}, "from 0 to 1"),
    "q in words": ("/pairs", {"max_q": "small"}, "from 0 to 1"),
    "kind": ("/pairs", {"kind": "rising,sideways"}, "sideways"),
    "sign": ("/pairs", {"sign": "up"}, "+ or -"),
    "known": ("/pairs", {"known": "maybe"}, "new or known"),
    "sort": ("/pairs", {"sort": "__class__"}, "no such column"),
    "group": ("/pairs", {"group": "monocytes"}, "no group"),
    "format": ("/save", {"format": "exe"}, "csv"),
    "nothing to save": ("/save", {"min_score": 1}, "no pair is left"),
    "sets of no gene": ("/save", {"format": "gmt"}, "search one first"),
    "network of no gene": ("/network", {}, "search one first"),
    "half a pair": ("/pair", {"a": 1}, "b is missing"),
    "no pair": ("/pair", {"a": 1, "b": 1}, "no candidates"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_questions_are_answered_in_one_line(explorer, bad):
    path, asked, word = BAD[bad]
    status, words = ask(explorer, path, **asked)
    assert status == 400
    assert word in words["error"]
    assert "\n" not in words["error"]


def test_nothing_else_is_served(explorer):
    for path in ("/etc/passwd", "/../scores.parquet", "/pairs/", "/<script>"):
        assert ask(explorer, path)[0] == 404


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def counts_of(words):
    import base64

    return np.frombuffer(base64.b64decode(words["counts"]), "<i4").reshape(-1, words["bins"], words["bins"])


def test_pictures_are_the_counts_of_a_job(explorer, codes):
    names = codes.array("gene").tolist()
    pairs = [(0, 1), (1, 0), (5, 9), (13, 2)]
    at = [[names.index(GENES[gene]) for gene in pair] for pair in pairs]
    expected, _ = count_pairs(codes, *np.array(at).T)
    number = explorer.table.number_of
    found = [counts_of(told(explorer, "/picture", a=number(GENES[a]), b=number(GENES[b])))[0] for a, b in pairs]
    assert np.array_equal(found, expected)
    together = explorer.pictures.draw_all([(GENES[a], GENES[b]) for a, b in pairs])
    assert np.array_equal(together[:, 0], expected)


def test_points_are_the_cells_of_the_picture(explorer):
    import base64

    words = told(explorer, "/picture", a=0, b=1)
    a, b = (np.frombuffer(base64.b64decode(words[name]), np.uint8) for name in ("bin_a", "bin_b"))
    assert a.size == N_CELLS
    assert np.array_equal(np.histogram2d(b, a, bins=16, range=[(0, 16)] * 2)[0], counts_of(words)[0])


def test_groups_are_counted_apart_and_sum_up(folder, codes):
    grouped = open_explorer(
        write_grouped(folder / "groups.parquet", GENES, **facts_of(folder, codes)), None, None, print
    )
    words = told(grouped, "/picture", a=0, b=1)
    counts = counts_of(words)
    assert words["names"] == ["", *TYPES]
    assert np.array_equal(counts[1:].sum(0), counts[0])
    assert counts.sum((1, 2)).tolist() == [N_CELLS, *[N_CELLS // 3] * 3]
    found = told(grouped, "/pair", a=0, b=1)
    assert found["groups"] == ["combined", *TYPES]
    assert len(set(found["score"])) == 4
    some = told(grouped, "/pairs", group="monocytes", count=1)
    best = pairs_of(GENES, seed=3).to_pandas().sort_values("score", ascending=False).iloc[0]
    assert some["score"] == [pytest.approx(best.score, abs=1e-6)]
    assert told(grouped, "/pairs")["total"] == 91


def test_cells_of_no_group_are_in_no_picture(folder, codes):
    """Groups that were too small to be scored are not among all groups combined either."""
    groups = {"columns": ["batch"], "names": ["one", "two"], "cells": [100, 110]}
    facts = facts_of(folder, codes) | {"groups": groups}
    tables = [pairs_of(GENES).append_column("group", pa.array([name] * 91)) for name in ("combined", "one", "two")]
    found = open_explorer(write_pairs(folder / "two.parquet", pa.concat_tables(tables), **facts), None, None, print)
    counts = counts_of(told(found, "/picture", a=0, b=1))
    assert counts.sum((1, 2)).tolist() == [210, 100, 110]
    assert np.array_equal(counts, found.pictures.draw_all([(found.table.genes[0], found.table.genes[1])])[0])


def test_groups_that_changed_are_not_drawn_and_it_is_said(tmp_path):
    codes = encoded(tmp_path, GENES)
    path = write_grouped(tmp_path / "moved.parquet", GENES, **facts_of(tmp_path, codes))
    (tmp_path / "expression.zarr").rename(tmp_path / "elsewhere.zarr")
    said = []
    found = open_explorer(path, None, None, said.append)
    assert "expression.zarr" in said[0]
    assert "all cells together" in found.words()["missing"]
    assert told(found, "/picture", a=0, b=1)["names"] == [""]


def test_without_codes_the_table_still_works(folder, codes):
    gone = {"codes": {"path": str(folder / "gone.codes.zarr"), "content_hash": "x"}}
    said = []
    found = open_explorer(write_pairs(folder / "gone.parquet", pairs_of(GENES), **gone), None, None, said.append)
    assert "are gone" in said[0]
    assert told(found, "/pairs")["total"] == 91
    status, words = ask(found, "/picture", a=0, b=1)
    assert status == 400
    assert "gone.codes.zarr" in words["error"]
    assert "are gone" in found.words()["missing"]


def test_codes_of_another_prediction_are_refused(tmp_path, scores, refuses):
    other = encoded(tmp_path, GENES, seed=1)
    with refuses("other codes", str(other.path)):
        open_explorer(scores, other.path, None, print)


def test_the_matrix_makes_codes_again(folder, codes, tmp_path, refuses):
    facts = facts_of(folder, codes)
    facts["codes"]["path"] = str(tmp_path / "gone.zarr")
    path = write_pairs(tmp_path / "again.parquet", pairs_of(GENES), **facts)
    page = browse(path, expression=folder / "expression.zarr", export=tmp_path / "page.html", best=5, quiet=True)
    assert b'"pictures":true' in page.read_bytes()
    (tmp_path / "b").mkdir()
    encoded(tmp_path / "b", GENES, seed=1)
    with refuses("is not the matrix"):
        browse(path, expression=tmp_path / "b" / "expression.zarr", export=tmp_path / "p2.html", quiet=True)


def test_a_file_that_is_gone_or_changed_is_told(folder, tmp_path):
    path = write_pairs(tmp_path / "s.parquet", pairs_of(GENES))
    found = open_explorer(path, None, None, lambda *_: None)
    write_pairs(path, pairs_of(GENES, seed=4))
    assert "has changed" in told(found, "/pair", a=0, b=1)["said"]
    path.unlink()
    words = told(found, "/pair", a=0, b=1)
    assert "cannot be read any more" in words["said"]
    assert words["score"]


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_saved_table_is_what_was_asked_for(explorer, frame):
    answer = explorer.answer("/save", {"format": "csv", "gene": "3", "max_q": "0.5"})
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    name = explorer.table.genes[3]
    expected = frame[((frame.gene_a == name) | (frame.gene_b == name)) & (frame.q_value <= 0.5)].sort_values(
        "score", ascending=False
    )
    assert [(row["gene_a"], row["gene_b"]) for row in rows] == list(zip(expected.gene_a, expected.gene_b, strict=True))
    assert [float(row["score"]) for row in rows] == pytest.approx(expected.score.tolist(), rel=1e-6)
    assert [row["kind"] for row in rows] == expected.kind.tolist()
    assert answer.file == f"{SYMBOLS[GENES.index(name)] or name}-pairs.csv"


def test_gene_sets_and_graphs_can_be_read(explorer, tmp_path):
    sets = explorer.answer("/save", {"format": "gmt", "gene": "1"}).content.decode().splitlines()
    names = {line.split("\t")[0]: line.split("\t")[2:] for line in sets}
    assert len(names["SYM2_partners" if "SYM2_partners" in names else next(iter(names))]) >= 12
    whole, rising, falling = names.values()
    assert {*rising, *falling} == {*whole}
    (tmp_path / "n.graphml").write_bytes(
        explorer.answer("/save", {"format": "graphml", "gene": "1", "what": "network"}).content
    )
    graph = nx.read_graphml(tmp_path / "n.graphml")
    assert graph.number_of_edges() >= 12


def test_modules_are_read(explorer, scores, tmp_path, refuses):
    (tmp_path / "modules.tsv").write_text("gene\tsymbol\tmodule\nENSG001\tSYM1\t2\nENSG002\tSYM2\t1\n")
    found = open_explorer(scores, None, tmp_path, print).words()
    assert dict(zip(found["ids"], found["modules"], strict=True))["ENSG001"] == 2
    (tmp_path / "other.tsv").write_text("name\tvalue\nx\t1\n")
    with refuses("no table of modules"):
        open_explorer(scores, None, tmp_path / "other.tsv", print)
    with refuses("no such file"):
        open_explorer(scores, None, tmp_path / "none.tsv", print)


# ── hostile names ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    codes = encoded(root, list(HOSTILE))
    return open_explorer(
        write_pairs(root / "x.parquet", pairs_of(list(HOSTILE)), **facts_of(root, codes)), None, None, print
    )


@pytest.mark.parametrize("make", [lambda e: e.page, lambda e: saved_page(e, 30)], ids=["served", "saved"])
def test_names_of_genes_stay_text_in_the_page(hostile, make):
    page = make(hostile).decode()
    for name in HOSTILE[:3]:
        assert name not in page
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    config = page.split('id="config">')[1].split("</script>")[0]
    assert json.loads(config)["ids"] == [HOSTILE[HOSTILE.index(name)] for name in json.loads(config)["ids"]]
    assert all(label.isprintable() and len(label) <= 80 for label in json.loads(config)["labels"])
    assert "default-src 'none'" in page
    assert not [
        word
        for word in ("http://", "https://cdn", 'src="http')
        if word in page.replace("http://www.w3.org/2000/svg", "")
    ]


def test_no_cell_of_a_table_is_a_formula(hostile):
    text = hostile.answer("/save", {"format": "csv"}).content.decode()
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    names = [cell for cell in cells if not _is_number(cell)]
    assert not [cell for cell in names if cell.startswith(("=", "+", "-", "@", "\t"))]
    assert '\'=HYPERLINK("https://example.org","x")' in cells


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_pictures_and_sets_of_hostile_genes(hostile):
    for gene in range(len(HOSTILE)):
        other = (gene + 1) % len(HOSTILE)
        assert counts_of(told(hostile, "/picture", a=gene, b=other)).sum() == N_CELLS
        lines = hostile.answer("/save", {"format": "gmt", "gene": str(gene)}).content.decode().splitlines()
        assert {len(line.split(chr(9))) > 2 for line in lines} == {True}
        answer = hostile.answer("/save", {"format": "csv", "gene": str(gene)})
        assert "/" not in answer.file
        assert len(answer.file) < 80


def test_an_endless_name_is_shown_in_a_few_letters(tmp_path):
    names = ["N" * 10_000, *GENES[:4]]
    found = open_explorer(write_pairs(tmp_path / "x.parquet", pairs_of(names)), None, None, lambda *_: None)
    assert max(map(len, found.labels)) <= 80
    number = found.table.number_of(names[0])
    assert told(found, "/pairs", gene=number)["total"] == 4
    assert len(found.answer("/save", {"format": "csv", "gene": str(number)}).file) < 80
    assert len(ask(found, "/pair", a=number, b=number)[1]["error"]) < 300


def test_json_in_a_script_ends_nothing():
    text = in_script({"x": "</script><!--<script>&"})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"x": "</script><!--<script>&"}
    assert "</script" not in page_script()


# ── the saved page ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_saved_page_holds_the_best_pairs(explorer, frame, tmp_path):
    page = browse(explorer.table.path, export=tmp_path / "p.html", best=20, quiet=True)
    config = json.loads(page.read_text().split('id="config">')[1].split("</script>")[0])
    held = config["saved"]["groups"][""]
    best = frame.sort_values("score", ascending=False, kind="stable")[:20]
    assert [(config["ids"][a], config["ids"][b]) for a, b in zip(held["a"], held["b"], strict=True)] == list(
        zip(best.gene_a, best.gene_b, strict=True)
    )
    assert config["saved"]["of"] == 91
    import base64
    import zlib

    pictures = config["saved"]["pictures"]
    counts = np.frombuffer(zlib.decompress(base64.b64decode(pictures["counts"])), "<u2").reshape(20, 1, 16, 16)
    assert np.array_equal(counts, explorer.pictures.draw_all(list(zip(best.gene_a, best.gene_b, strict=True))))
    again = saved_page(explorer, 20)
    assert page.read_bytes() == again


def test_pages_are_refused_before_anything_is_read(scores, tmp_path, refuses, monkeypatch):
    (tmp_path / "notes.html").write_text("mine")
    for words, page, more in (
        (("name it page.html",), tmp_path / "page.pdf", {}),
        (("exists",), tmp_path / "notes.html", {}),
        (("did not make it",), tmp_path / "notes.html", {"overwrite": True}),
        (("report",), scores.with_suffix(".html"), {}),
        (("--best is 0",), tmp_path / "p.html", {"best": 0}),
    ):
        with refuses(*words):
            browse(scores, export=page, quiet=True, **more)
    for limit, size in (("MOST_BYTES", 1000), ("MOST_PICTURES", 500)):
        monkeypatch.setattr(f"pairscape.model.reports.explorer.saved_page.{limit}", size)
        with refuses("--best"):
            browse(scores, export=tmp_path / "p.html", quiet=True)
        assert not (tmp_path / "p.html").exists()
    assert (tmp_path / "notes.html").read_text() == "mine"


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────


def fetch(address, host=None, **asked):
    request = urllib.request.Request(address + ("&" if "?" in address else "?") + urlencode(asked))
    if host:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def test_this_machine_is_served_and_no_other_name(explorer, capfd):
    with server.serving(explorer, port=0) as address:
        status, page, headers = fetch(address)
        assert (status, headers["X-Frame-Options"], headers["Cache-Control"]) == (200, "DENY", "no-store")
        assert b"Search a gene" in page
        assert json.loads(fetch(address + "pairs", gene=2)[1])["total"] == 13
        assert fetch(address + "pairs", gene="x")[0] == 400
        assert fetch(address + "nothing")[0] == 404
        assert "attachment" in fetch(address + "save", format="csv")[2]["Content-Disposition"]
        for name, expected in (
            ("localhost:9", 200),
            ("[::1]", 200),
            ("evil.example", 403),
            ("127.0.0.1.evil.example", 403),
        ):
            assert fetch(address + "pairs", host=name)[0] == expected
        request = urllib.request.Request(address, data=b"x", method="POST")
        with pytest.raises(HTTPError, match="405"):
            urllib.request.urlopen(request, timeout=20)
    with pytest.raises(URLError):
        fetch(address)
    assert capfd.readouterr() == ("", "")  # who is refused is told; the terminal stays quiet


def test_others_need_the_token(explorer):
    with server.serving(explorer, host="0.0.0.0", port=0) as address:
        base, _, token = address.partition("?token=")
        local = f"http://127.0.0.1:{base.rsplit(':', 1)[1]}"
        assert len(token) >= 24
        assert fetch(local + "pairs", token=token, count=1)[0] == 200
        assert fetch(local + "pairs", count=1)[0] == 403
        assert fetch(local, token=token[:-1])[0] == 403
        assert fetch(local + "pairs", token=f"{token}é")[0] == 403


def test_ports(explorer, refuses):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        taken = held.getsockname()[1]
        with refuses(f"--port {taken} is taken"), server.serving(explorer, port=taken):
            pass
    with server.serving(explorer) as one, server.serving(explorer) as two:
        assert one != two
    with refuses("no address of this machine"), server.serving(explorer, host="203.0.113.7", port=0):
        pass
    with refuses("--port"), server.serving(explorer, port=70000):
        pass


@pytest.mark.parametrize("content", [None, b"no parquet", "other parquet", "no pair"])
def test_files_that_are_no_scores_are_refused(tmp_path, content):
    path = tmp_path / "s.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "other parquet":
        pa.parquet.write_table(pa.table({"x": [1]}), path)
    elif content == "no pair":
        write_pairs(path, pairs_of(GENES)[:0])
    with pytest.raises((InputError, JobError)) as refused:
        browse(path, quiet=True)
    assert "s.parquet" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.cluster
def test_ctrl_c_ends_it_in_one_line(scores):
    import signal

    command = [sys.executable, "-m", "pairscape", "browse", str(scores)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(2)]
        address = lines[1].split()[1]
        assert fetch(address + "pairs", count=1)[0] == 200
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert len(error.splitlines()) == 1
    assert out == ""
