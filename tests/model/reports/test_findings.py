"""The report of predictions, its pictures and `show`: what they tell is what the file and the counts say."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.colors import to_hex

from model_fixtures import run_command, small_store
from pairscape.model.edges import edges
from pairscape.model.edges.edges import choose_edges
from pairscape.model.edges.evidence import SHOWN, count_edges, new_pairs, scored_codes, show_scores
from pairscape.model.edges.scores import read_facts, read_scores, write_scores
from pairscape.model.edges.tally import tally_scores
from pairscape.model.options import EdgeChoice
from pairscape.model.reports import findings, network_picture
from pairscape.model.reports.evidence_figure import title_of
from pairscape.model.reports.findings import write_findings
from pairscape.model.reports.heatmap_figures import coarsened, pair_figure
from pairscape.model.reports.network_picture import label_places, lay_out, network_figure
from pairscape.model.reports.score_tables import COLUMN_WORDS, called_rows, pair_columns
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.genes.kinds import KINDS

ROOT = Path(__file__).parents[3]
SHIFT = {
    "overall": 4.2,
    "level": "shifted",
    "sentence": "The new matrix <has> 3.1 times the cells: probabilities are not to be trusted.",
    "parts": {"cells": {"name": "cells", "training": "350", "here": "1,085", "times": 3.1}},
}


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("findings"))


def scored(store, seed=0, directed=False):
    """Every pair of the store with a made-up score; a few screened out, q-values, stability of the best."""
    rng = np.random.default_rng(seed)
    names, n = store.array("gene").astype(object), store.spec.n_pairs
    score = rng.random(n).astype(np.float32) ** 3
    out = rng.random(n) < 0.15
    steady = score < np.sort(score)[-20]
    columns = {
        "gene_a": names[store.array("gene_a")[:n]],
        "gene_b": names[store.array("gene_b")[:n]],
        "label": rng.integers(-1, 2, n).astype(np.int8),
        "score": pa.array(score, mask=out),
        "dependence": rng.random(n).astype(np.float32),
        "correlation": rng.uniform(-1, 1, n).astype(np.float32),
        "q_value": pa.array(1 - score, mask=out),
        "score_mean": pa.array(score, mask=steady),
        "score_sd": pa.array(np.full(n, 0.03, np.float32), mask=steady),
        "rank_stability": pa.array(rng.random(n).astype(np.float32), mask=steady),
    }
    if directed:
        columns["forward"] = pa.array(rng.random(n).astype(np.float32), mask=out)
    return pa.table(columns)


def facts_of(store, **more):
    codes = {"path": store.spec.codes, "content_hash": store.spec.codes_hash}
    return {
        "model": {"run": "runs/first", "network": "pairnet", "weights": "3a" * 32},
        "matrix": {"path": "data/spleen.zarr", "n_cells": 60},
        "codes": codes,
        "pairs": {"n_pairs": 66, "pairs": {"all_pairs": "True"}},
        "prior": 0.02,
        "thresholds": {"precision 0.5": 0.4, "precision 0.9": 0.7},
        "screen": {"fraction": 0.85, "sample": 4000, "recall": {"10": 1.0, "100": 0.97}},
        "shift": SHIFT,
        "fdr": {"sentence": "Drawn from 3,000 decoys."},
        "stability": {"n": 20},
        **more,
    }


def write(path, found, facts):
    write_scores(path, [found[:30], found[30:]], found.column_names, facts)
    return path


@pytest.fixture
def scores(store, tmp_path):
    return write(tmp_path / "net.parquet", scored(store), facts_of(store))


def pictures(page):
    """The SVG text of every embedded picture."""
    addresses = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    return [base64.b64decode(address).decode() for address in addresses]


# ── the counts behind a prediction ───────────────────────────────────────────────────────────────────────────────────


def test_heatmaps_are_those_of_the_store(scores, store):
    """Counted again from the codes, the first gene to the right, whichever way a network points the edge."""
    names = store.array("gene").tolist()
    images = {
        (names[a], names[b]): store.counts(slice(row, row + 1))[0]
        for row, (a, b) in enumerate(zip(store.array("gene_a"), store.array("gene_b"), strict=True))
        if row < store.spec.n_pairs
    }
    pointed = write(scores.with_name("d.parquet"), scored(store, directed=True), facts_of(store))
    turned = 0
    for path in (scores, pointed):
        found = show_scores(path, (), 12)
        ends = zip(found.edges.names(found.edges.source), found.edges.names(found.edges.target), strict=True)
        for (a, b), counts in zip(ends, found.counts, strict=True):
            turned += (a, b) not in images
            np.testing.assert_array_equal(counts, images[a, b] if (a, b) in images else images[b, a].T)
    assert turned > 0


def test_new_pairs_are_the_best_that_no_label_calls_an_edge(scores):
    rows = [r for r in read_scores(scores).to_pylist() if r["label"] != 1 and r["score"] is not None]
    rows.sort(key=lambda row: -row["score"])
    found = choose_edges(scores, new_pairs(5), SHOWN)
    ends = list(zip(found.names(found.source), found.names(found.target), strict=True))
    assert ends == [(row["gene_a"], row["gene_b"]) for row in rows[:5]]


def test_a_named_pair_is_found_in_either_order(scores):
    row = next(r for r in read_scores(scores).to_pylist() if r["score"] is not None)
    there, back = (
        show_scores(scores, ends, 1) for ends in ((row["gene_a"], row["gene_b"]), (row["gene_b"], row["gene_a"]))
    )
    np.testing.assert_array_equal(there.counts[0], back.counts[0].T)
    assert there.edges.weight[0] == back.edges.weight[0] == np.float32(row["score"])
    screened = next(r for r in read_scores(scores).to_pylist() if r["score"] is None)
    found = show_scores(scores, (screened["gene_a"], screened["gene_b"]), 1).edges
    assert title_of(found, 0).startswith("not scored, ρ ")


def test_show_draws_predictions(scores, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = read_scores(scores).to_pylist()[3]
    assert run_command("show", scores, "-k", "3") == 0
    assert run_command("show", scores, row["gene_a"], row["gene_b"], "-o", "pair.svg") == 0
    out, _ = capfd.readouterr()
    assert "wrote net-best.png: 3 best new pairs" in out
    assert Path("net-best.png").stat().st_size > 10_000
    assert row["gene_a"] in Path("pair.svg").read_text() or "<path" in Path("pair.svg").read_text()


def test_show_draws_the_best_pairs_of_a_gene(scores, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [r for r in read_scores(scores).to_pylist() if r["score"] is not None and "GENE001" in r.values()]
    found = show_scores(scores, ("GENE001",), 4)
    ends = zip(found.edges.names(found.edges.source), found.edges.names(found.edges.target), strict=True)
    best = sorted(rows, key=lambda row: -row["score"])[:4]
    assert list(ends) == [(row["gene_a"], row["gene_b"]) for row in best]
    assert run_command("show", scores, "GENE001", "-k", "4", "--paper", "light", "--bins", "2") == 0
    assert "wrote GENE001-best.png: 4 best pairs of GENE001" in " ".join(capfd.readouterr().out.split())


def test_fewer_bins_hold_the_same_cells():
    images = np.random.default_rng(0).integers(0, 9, (2, 8, 8))
    fewer = coarsened(images, 4)
    for kb, ka in np.ndindex(4, 4):
        np.testing.assert_array_equal(fewer[:, kb, ka], images[:, 2 * kb : 2 * kb + 2, 2 * ka : 2 * ka + 2].sum((1, 2)))
    assert coarsened(images, None) is coarsened(images, 8) is images


def test_an_empty_bin_has_the_colour_of_the_paper():
    images = np.zeros((1, 4, 4), int)
    images[0, 0, 0], images[0, 3, 3] = 9, 1
    for paper, empty in (("dark", "#2a1040"), ("light", "#ffffff")):
        drawn = pair_figure(images, [""], ["a"], ["b"], paper=paper).axes[0].images[0]
        colours = [to_hex(drawn.cmap(drawn.norm(count))) for count in (0, 1, 9)]
        assert colours[0] == empty
        assert len(set(colours)) == 3


def test_a_column_that_says_the_same_in_every_row_is_told_once():
    rows = [dict.fromkeys(COLUMN_WORDS, "–") | {"q_value": "0.001", "known": "new", "kind": kind} for kind in "ab"]
    columns, same = pair_columns(rows)
    assert columns == {"kind": "Kind"}
    assert same == "In every row: q-value 0.001, Label new."
    assert pair_columns([]) == ({}, "")


def test_how_many_called_pairs_are_wrong_is_told_as_a_number(scores):
    row = next(
        row for row in called_rows(tally_scores(scores, {"some": 0.4}, 0.2, both_ends=True)) if row["pairs"] != "0"
    )
    assert re.fullmatch(r"about [\d,]+ \([\d.]+ %\)", row["by_score"])


def test_the_colour_scales_of_a_grid_do_not_lie_on_each_other():
    """They did where a grid with residuals had several rows."""
    images = np.random.default_rng(0).integers(0, 9, (7, 8, 8))
    figure = pair_figure(images, [""] * 7, ["a"] * 7, ["b"] * 7, residual=True)
    figure.canvas.draw()
    scales = [axes.get_position() for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert len(scales) == 2
    assert not scales[0].overlaps(scales[1])


BAD = {
    "no scores": (["show", "gone.parquet"], ["gone.parquet", "no such file"]),
    "codes are gone": (["show", "lost.parquet"], ["lost.parquet", "gone", "nowhere.zarr", "predict again"]),
    "other codes": (["show", "other.parquet"], ["other codes", "other.parquet"]),
    "codes not named": (["show", "silent.parquet"], ["silent.parquet", "which codes"]),
    "unknown gene": (["show", "net.parquet", "GENE00"], ["net.parquet holds no pair of GENE00:", "such as GENE0"]),
    "bins that do not divide": (["show", "net.parquet", "--bins", "5"], ["bins is 5", "give 2, 4"]),
    "one bin": (["show", "net.parquet", "--bins", "1"], ["bins is 1"]),
    "other paper": (["show", "net.parquet", "--paper", "blue"], ["blue"]),
    "no such pair": (["show", "net.parquet", "GENE000", "KLF1"], ["net.parquet", "KLF1"]),
    "no picture": (["show", "net.parquet", "-o", "a.txt"], ["a.txt", ".png"]),
    "no folder": (["show", "net.parquet", "-o", "none/a.png"], ["there is no folder none"]),
    "none": (["show", "net.parquet", "-k", "0"], ["-k is 0"]),
    "thousands": (["show", "net.parquet", "-k", "5000"], ["-k is 5000"]),
    "nothing is new": (["show", "known.parquet"], ["known.parquet", "none of its pairs", "new"]),
    "no pair of a store": (["show", "images.zarr"], ["GENE_A GENE_B"]),
    "report of nothing": (["report", "gone.parquet"], ["gone.parquet", "no such file"]),
    "report of text": (["report", "text.parquet"], ["text.parquet", "no scores"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_and_draws_nothing(name, scores, store, monkeypatch, capfd):
    folder, found = scores.parent, read_scores(scores)
    write(folder / "lost.parquet", found, facts_of(store, codes={"path": "nowhere.zarr"}))
    write(folder / "other.parquet", found, facts_of(store, codes={"path": store.spec.codes, "content_hash": "0"}))
    write(folder / "silent.parquet", found, {})
    known = found.set_column(2, "label", pa.array(np.ones(found.num_rows, np.int8)))
    write(folder / "known.parquet", known, facts_of(store))
    (folder / "text.parquet").write_text("gene_a,gene_b")
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    arguments, words = BAD[name]
    capfd.readouterr()
    status = run_command(*arguments)
    out, err = capfd.readouterr()
    assert (status, out, len(err.splitlines())) == (2, "", 1), (status, out, err)
    assert [word for word in words if word not in err] == [], err
    assert sorted(folder.iterdir()) == before


LOADED = """
import sys
from pairscape.command_line import main
sys.argv = ["pairscape", "show", *sys.argv[1:]]
try:
    main()
finally:
    print(*sorted({"numba", "pandas", "jinja2", "torch", "dask"} & set(sys.modules)))
"""


def test_a_picture_of_a_pair_loads_no_more_than_it_needs(scores, tmp_path):
    """Loading numba and pandas takes as long as all the rest."""
    gene_a, gene_b = read_scores(scores).slice(0, 1).select(["gene_a", "gene_b"]).to_pylist()[0].values()
    done = subprocess.run(
        [sys.executable, "-c", LOADED, scores, gene_a, gene_b, "-o", tmp_path / "pair.png"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == ""
    assert (tmp_path / "pair.png").stat().st_size > 0


# ── the picture of the network ───────────────────────────────────────────────────────────────────────────────────────

PLACES = """
import sys
from test_findings import placed
print(placed(sys.argv[1]))
"""


def placed(path):
    """Where each gene of a small network is drawn."""
    places, _ = lay_out(network_picture.graph_of(choose_edges(Path(path), EdgeChoice(top=40)), regulators=False), 0)
    return sorted((gene, *place.tolist()) for gene, place in places.items())


def test_the_layout_is_the_same_in_every_process(scores):
    """Whatever the order of sets there."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = os.environ | {
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", PLACES, scores], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{placed(scores)}\n"


def tree(n_hubs=5, leaves=9):
    """Hubs with targets of their own, and a few in common: sixty edges or so, of usual names."""
    source = np.repeat(np.arange(n_hubs, dtype=np.int32), leaves + 1)
    own = n_hubs + np.arange(n_hubs * leaves, dtype=np.int32).reshape(n_hubs, leaves)
    target = np.concatenate([own, np.roll(own[:, :1], 1, axis=0)], axis=1).ravel()
    genes = tuple(f"HLA-D{i}" if i % 3 else f"GATA{i}" for i in range(n_hubs * (leaves + 1)))
    weight = np.linspace(1, 0.5, source.size).astype(np.float32)
    columns = {"correlation": np.where(np.arange(source.size) % 2, 0.5, -0.5).astype(np.float32)}
    return edges.Edges(genes, source, target.astype(np.int32), weight, columns, False)


def test_labels_of_sixty_edges_do_not_lie_on_each_other():
    """Measured on the letters as they are drawn."""
    figure = network_figure(tree(), regulators=True)
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 50
    assert sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]) == 0
    inside = figure.bbox
    assert all(box.x0 >= inside.x0 and box.x1 <= inside.x1 and box.y1 <= inside.y1 for box in boxes)


def test_parts_of_a_network_are_apart_and_within_the_page(scores):
    found = network_picture.graph_of(choose_edges(scores, EdgeChoice(top=4), SHOWN), regulators=False)
    places, height = lay_out(found, 0)
    at = np.array(list(places.values()))
    apart = np.linalg.norm(at[:, None] - at[None], axis=2) + 9 * np.eye(len(at))
    assert apart.min() > 0.3
    assert (at >= 0).all()
    assert at[:, 0].max() <= network_picture.WIDTH
    assert at[:, 1].max() <= height
    assert {gene for gene, *_ in label_places(found, places)} == set(found)


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


def assert_sums(called, rows):
    """By hand: how many, the mean of 1 − score, and the largest q-value."""
    assert called.pairs == len(rows)
    assert called.by_score == (pytest.approx((1 - rows.score).mean()) if len(rows) else None)
    assert called.by_q == (pytest.approx(rows.q_value.max()) if len(rows) else None)


def test_tally_is_what_pandas_counts(store, tmp_path, monkeypatch):
    monkeypatch.setattr(edges, "ROWS_AT_ONCE", 7)
    path = write(tmp_path / "d.parquet", scored(store, directed=True), facts_of(store))
    frame = read_scores(path).to_pandas().astype({"gene_a": str, "gene_b": str})
    kept = frame[frame["score"].notna()].astype({"score": float})
    for both in (True, False):
        found = tally_scores(path, {"some": 0.4}, 0.2, both_ends=both)
        assert (found.n_pairs, found.n_scored, found.n_known) == (66, len(kept), int((frame.label == 1).sum()))
        assert_sums(found.called["some"], kept[kept.score >= 0.4])
        assert found.expected == pytest.approx(kept.score.sum())
        assert found.histogram.tolist() == np.histogram(kept.score, 50, (0, 1))[0].tolist()
        for q in (0.01, 0.05, 0.1):
            assert_sums(found.significant[q], kept[kept.q_value <= np.float32(q)])
            assert_sums(found.likely[q], kept[(kept.q_value <= np.float32(q)) & (kept.score >= 0.5)])
        source = np.where(kept.forward < 0.5, kept.gene_b, kept.gene_a)
        target = np.where(kept.forward < 0.5, kept.gene_a, kept.gene_b)
        for at, gene in enumerate(found.genes):
            mine = (source == gene) | (both & (target == gene))
            assert found.scored_of[at] == mine.sum()
            assert found.called_of[at] == (mine & (kept.score >= 0.2)).sum()
            assert found.expected_of[at] == pytest.approx(kept.score[mine].sum())


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """A file of scores with its report; tests read both."""
    path = write(tmp_path_factory.mktemp("finished") / "net.parquet", scored(store), facts_of(store))
    write_findings(path, None)
    return path


@pytest.fixture
def page(finished):
    return finished.with_suffix(".html").read_text(encoding="utf-8")


def test_the_report_is_one_self_contained_file(page, finished):
    for text in (page, *pictures(page)):
        addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
        assert all(address.startswith(("data:", "#")) for address in addresses)
        assert not re.search(r"<script|<link|@import|url\((?!#)", text)
    assert sorted(path.name for path in finished.parent.iterdir()) == ["net.html", "net.parquet"]
    assert len(pictures(page)) == page.count("<img ") == 2 + 2 + 2 * findings.HEATMAPS
    assert all(len(alt) > 20 for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page))


def test_the_report_tells_what_the_file_holds(page, finished):
    frame = read_scores(finished).to_pandas()
    called = int((frame["score"] >= 0.4).sum())
    assert f"{called} of 66 pairs are called edges" in page
    assert f"{frame['score'].sum():,.0f} of the scored pairs" in page
    assert "3.1 times the cells" in page
    assert "&lt;has&gt;" in page
    assert "1,085" in page
    assert "it keeps" not in page
    assert "the screen keeps 100 % of its best 10, 97 % of its best 100" in page
    assert f"{int((frame['q_value'] <= 0.1).sum())} pairs at a rate of 0.1. Drawn from 3,000 decoys." in page
    assert "median rank stability" in page
    assert "Genes with most partners" in page
    assert "spleen.zarr" in page
    best = frame.sort_values("score", ascending=False).iloc[0]
    first = page[page.index('<td class="rank">1</td>') :][:200]
    assert f"<b>{best.gene_a}</b>" in first
    assert f"<b>{best.gene_b}</b>" in first


def test_a_report_without_any_optional_fact_or_column(store, tmp_path):
    """What was not done is not told of; without codes the heatmaps are missed in words."""
    found = scored(store).select(["gene_a", "gene_b", "label", "score", "dependence", "correlation"])
    page = write_findings(write(tmp_path / "bare.parquet", found, {}), None).read_text()
    for absent in ('id="shift"', 'id="trust"', "q-value", "Rank stability", "StrictUndefined"):
        assert absent not in page
    assert "No heatmap is shown" in page
    assert "more likely an edge than not" in page
    assert len(pictures(page)) == 2
    page = write_findings(tmp_path / "bare.parquet", open_codes(Path(store.spec.codes))).read_text()
    assert len(pictures(page)) == 4 + 2 * findings.HEATMAPS


def test_regulators_are_told_where_the_pairs_have_them(store, tmp_path):
    facts = facts_of(store, pairs={"n_pairs": 66, "pairs": {"regulators": "tfs.txt", "targets": "None"}})
    page = write_findings(write(tmp_path / "r.parquet", scored(store), facts), None).read_text()
    assert "Regulators with most targets" in page
    assert any("regulator" in drawn for drawn in pictures(page))
    pointed = write(tmp_path / "d.parquet", scored(store, directed=True), facts_of(store))
    assert any("arrow: direction as told" in drawn for drawn in pictures(write_findings(pointed, None).read_text()))


def test_a_screen_that_left_no_pair_is_told(store, tmp_path):
    found = scored(store)
    none = found.set_column(3, "score", pa.nulls(found.num_rows, pa.float32()))
    page = write_findings(write(tmp_path / "n.parquet", none, facts_of(store)), None).read_text()
    assert "<h1>No pair was scored</h1>" in page


def test_the_report_is_rebuilt_by_the_command_to_the_same_bytes(page, finished, capfd):
    finished.with_suffix(".html").unlink()
    assert run_command("report", finished) == 0
    assert "wrote" in capfd.readouterr().out
    assert finished.with_suffix(".html").read_text(encoding="utf-8") == page


def test_facts_of_the_record_are_whole(page, finished):
    shown = re.search(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)[1]
    text = shown.replace("&#34;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert json.loads(text) == read_facts(finished)


def test_counts_of_other_codes_are_refused(scores, store, refuses):
    found = choose_edges(scores, EdgeChoice(top=3))
    other = edges.replace(found, genes=tuple(f"X{i}" for i in range(len(found.genes))))
    with refuses("lacks gene X"):
        count_edges(scored_codes(read_facts(scores), scores), other)


# ── of a network of kinds ────────────────────────────────────────────────────────────────────────────────────────────


def axis_words(page):
    """What the axes of the pictures say of scores."""
    return [words for picture in pictures(page) for words in re.findall(r">(score: [^<]+)</text>", picture)]


def test_the_axis_of_a_network_of_edges_says_so(page):
    assert axis_words(page) == ["score: probability of an edge"]


def test_the_best_pairs_of_each_kind_are_shown(store, tmp_path):
    """Each with the called pairs that are most probably of it, of those that occur; q is not of the score alone."""
    found, rng = scored(store), np.random.default_rng(1)
    q = pa.array(rng.uniform(0, 0.1, len(found)).astype(np.float32))
    found = found.set_column(found.column_names.index("q_value"), "q_value", q)
    kind = np.array(KINDS[1:4], object)[rng.integers(0, 3, len(found))]
    share = rng.uniform(0.2, 1, len(found)).astype(np.float32)
    found = found.append_column("kind", pa.array(kind, pa.string())).append_column("kind_probability", pa.array(share))
    page = write_findings(write(tmp_path / "k.parquet", found, facts_of(store)), None).read_text(encoding="utf-8")
    heads = re.findall(r'<h3 class="kind">.*?</span>([a-z-]+) <small>', page)
    assert heads == list(KINDS[1:4])
    frame = found.to_pandas().dropna(subset="score")
    frame = frame[frame["label"] <= 0]
    for name in heads:
        some = frame[frame["kind"] == name]
        some = some[some["q_value"] <= 0.05]
        best = some.loc[(some["score"] * some["kind_probability"]).idxmax()]
        part = page[page.index(f"</span>{name} <small>") :]
        assert f"Joint expression of {best['gene_a']} and {best['gene_b']}" in part[: part.index("<figcaption>")]
    assert "pairs depend, at a false discovery rate of 5%" in page
    assert axis_words(page) == ["score: probability of dependence"]
    figure = network_figure(choose_edges(tmp_path / "k.parquet", EdgeChoice(top=20), SHOWN), regulators=False)
    assert {text.get_text() for text in figure.legends[0].get_texts()} >= {"rising", "falling", "threshold"}
    drawn = show_scores(tmp_path / "k.parquet", (frame.iloc[0]["gene_a"], frame.iloc[0]["gene_b"]), 1)
    assert title_of(drawn.edges, 0).startswith(frame.iloc[0]["kind"])
