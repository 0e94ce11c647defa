"""Comparison of two groups of cells: exact figures, the planted change first, q-values that hold, mistakes refused."""

import json
import shutil
from itertools import pairwise
from math import comb

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import rankdata, spearmanr

from pairscape.model.edges.scores import write_scores
from pairscape.model.prediction import bands
from pairscape.model.prediction.dealing import FIRST, OTHER, SECOND, Dealing
from pairscape.model.prediction.differences import (
    MOST_ROUNDS,
    Recount,
    correlation_change,
    null_changes,
    strata_of_groups,
    survey_cells,
)
from pairscape.model.prediction.fdr import q_values
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.pairs import Pairs, all_pairs
from pairscape.pipeline.heatmaps.memory import portion
from pairscape.pipeline.heatmaps.pairwise import runs_of
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning
from typed import run_command

CELLS, GENES = 440, 14
GROUPS = ("x", "y", "z")


def expression(seed=0):
    """Genes 0 and 1 follow each other in x alone, 2 and 3 in all cells; half of the values are 0."""
    rng = np.random.default_rng(seed)
    value = rng.normal(size=(CELLS, GENES))
    group = np.repeat([0, 1, 2], [200, 200, 40])
    value[group == 0, 1] = 0.9 * value[group == 0, 0] + 0.4 * value[group == 0, 1]
    value[:, 3] = 0.9 * value[:, 2] + 0.4 * value[:, 3]
    value[:, 4] = np.where(group == 1, -1, value[:, 4])  # off in y
    return np.clip(value + 0.1, 0, None).astype(np.float32), group


def obs_of(group):
    donors = np.arange(CELLS) % 5
    return pd.DataFrame(
        {
            "condition": np.array(GROUPS, object)[group],
            "donor": [f"d{i}" for i in donors],  # in all groups
            "sample": [f"s{g}{i % 4}" for g, i in zip(group, donors, strict=True)],  # each in one: 4 against 4
            "few": np.where(group == 0, "f1", [f"g{i % 2}" for i in donors]),  # 1 against 2
            "holes": pd.Categorical([None if i in (3, 420) else "a" for i in range(CELLS)]),
        },
        index=[f"c{i}" for i in range(CELLS)],
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A matrix, its codes, and scores of all pairs in three groups, in the form that `predict --by` writes."""
    folder = tmp_path_factory.mktemp("compared")
    x, group = expression()
    names = [f"G{i:02}" for i in range(GENES)]
    ad.AnnData(sparse.csr_matrix(x), obs=obs_of(group), var=pd.DataFrame(index=names)).write_h5ad(folder / "m.h5ad")
    matrix = open_expression(folder / "m.h5ad")
    codes = encode_matrix(matrix, folder / "c.zarr", Binning("rank", 16), np.arange(CELLS), Session())
    write_grouped(folder / "s.parquet", folder, codes, group)
    return folder


def write_grouped(path, folder, codes, group, /, **facts):
    held = codes.read(np.arange(GENES), slice(0, CELLS))
    a, b = np.triu_indices(GENES, 1)
    names = codes.array("gene").astype(object)
    rng = np.random.default_rng(1)
    parts = []
    for name, members in {"combined": group >= 0, **{g: group == i for i, g in enumerate(GROUPS)}}.items():
        n = a.size
        parts.append(pa.table({
            "gene_a": names[a], "gene_b": names[b], "label": np.full(n, -1, np.int8), "group": [name] * n,
            "score": rng.random(n).astype(np.float32), "kind": ["rising"] * n,
            "dependence": np.ones(n, np.float32),
            "correlation": correlations(held[:, members], a, b).astype(np.float32),
        }))  # fmt: skip
    told = {
        "matrix": {"path": str(folder / "m.h5ad"), "n_cells": CELLS},
        "codes": {"path": codes.path, "content_hash": codes.content_hash},
        "groups": {"columns": ["condition"], "names": list(GROUPS), "cells": np.bincount(group).tolist()},
        "prior": 0.1,
        **facts,
    }
    write_scores(path, parts, parts[0].column_names, told)
    return path


def correlations(held, a, b):
    """By scipy: the cells of a bin tie."""
    constant = held.std(1) == 0
    found = [0.0 if constant[i] or constant[j] else spearmanr(held[i], held[j])[0] for i, j in zip(a, b, strict=True)]
    return np.array(found)


def by_hand(first, second, n, m):
    return (np.arctanh(first) - np.arctanh(second)) / np.sqrt(1.06 / (n - 3) + 1.06 / (m - 3))


# ── two groups of one file ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def compared(base):
    assert run_command("compare", base / "s.parquet", "x", "y", base / "out.parquet", "--quiet") == 0
    return base / "out.parquet"


def test_the_table_holds_what_numpy_and_scipy_say(base, compared):
    frame = pd.read_parquet(compared).astype({"gene_a": str, "gene_b": str})
    x, group = expression()
    scores = pd.read_parquet(base / "s.parquet").astype({"gene_a": str, "gene_b": str, "group": str})
    one, other = (scores[scores.group == name].set_index(["gene_a", "gene_b"]) for name in ("x", "y"))
    assert len(frame) == GENES * (GENES - 1) // 2
    for row in frame.itertuples():
        key = (row.gene_a, row.gene_b)
        a, b = (int(name[1:]) for name in key)
        r = one.correlation[key], other.correlation[key]
        assert (row.correlation_1, row.correlation_2) == r
        if 4 in (a, b):  # which no cell of y expresses
            assert np.isnan(row.z)
            assert np.isnan(row.q_value)
        else:
            assert row.z == pytest.approx(by_hand(*map(float, r), 200, 200), abs=1e-5)
        odds = [np.log(side.score[key] / (1 - side.score[key])) for side in (one, other)]
        assert row.evidence == pytest.approx(odds[0] - odds[1], abs=1e-4)
        assert row.expressing_a_1 == pytest.approx((x[group == 0, a] > 0).mean())
        assert row.expressing_b_2 == pytest.approx((x[group == 1, b] > 0).mean())
        assert row.kind_1 == "rising"
    known = frame.dropna(subset=["z"])
    assert len(known) == (GENES - 1) * (GENES - 2) // 2
    assert known.index.max() == len(known) - 1  # pairs that are not compared come last
    assert known.z.abs().is_monotonic_decreasing
    assert known.q_value.is_monotonic_increasing
    assert tuple(frame.iloc[0][["gene_a", "gene_b"]]) == ("G00", "G01")
    assert frame.q_value[0] <= 0.05
    assert int((frame.q_value <= 0.05).sum()) <= 2  # what does not change is not called


def test_facts_and_page_tell_what_was_done(compared):
    facts = json.loads(pq.read_schema(compared).metadata[b"pairscape"])
    assert (facts["format"], facts["groups"], facts["cells"]) == ("pairscape-comparison", ["x", "y"], [200, 200])
    assert facts["dealt"] >= 7800
    assert facts["not_compared"] == GENES - 1
    assert "13 pairs are not compared" in facts["sentence"]
    page = compared.with_suffix(".html").read_text(encoding="utf-8")
    assert "differ between x and y" in page
    assert "<h3>G00 and G01</h3>" in page
    assert page.count("Joint expression in x.") == page.count("Joint expression in y.") == 6
    assert "<script" not in page


def test_the_same_seed_gives_the_same_bytes(base, compared, tmp_path):
    assert run_command("compare", base / "s.parquet", "x", "y", tmp_path / "out.parquet", "--quiet") == 0
    assert (tmp_path / "out.parquet").read_bytes() == compared.read_bytes()
    assert run_command("compare", base / "s.parquet", "y", "x", tmp_path / "b.parquet", "--quiet", "--seed", "1") == 0
    there, back = pd.read_parquet(compared), pd.read_parquet(tmp_path / "b.parquet")
    assert back.z.tolist() == pytest.approx((-there.z).tolist(), nan_ok=True)


def test_bands_of_expression_have_changes_of_their_own(base, tmp_path, monkeypatch):
    monkeypatch.setattr(bands, "LEAST", 10)
    monkeypatch.setattr(bands, "EDGES", (0.5,))
    out = tmp_path / "out.parquet"
    assert run_command("compare", base / "s.parquet", "x", "y", out, "--quiet") == 0
    facts, table = json.loads(pq.read_schema(out).metadata[b"pairscape"]), pd.read_parquet(out)
    share = (expression()[0][:400] > 0).mean(0)
    number = [int(gene.removeprefix("G")) for end in ("gene_a", "gene_b") for gene in table[end]]
    rarer = share[np.array(number).reshape(2, -1)].min(0)[table.z.notna()]
    assert [band["candidates"] for band in facts["bands"]] == [(rarer < 0.5).sum(), (rarer >= 0.5).sum()]
    assert sum(band["calls"] for band in facts["bands"]) == facts["calls"]["0.05"] == (table.q_value <= 0.05).sum()
    assert facts["dealt"] == MOST_ROUNDS * rarer.size  # each pair so often, in its own band
    assert "apart for pairs whose rarer gene is in less and in more than 50% of the cells" in facts["sentence"]
    for inside in (rarer < 0.5, rarer >= 0.5):  # within a band q does not rise with |z|
        assert (np.diff(table.q_value[table.z.notna()][inside]) >= 0).all()


@pytest.mark.parametrize(("column", "dealt"), [("donor", 15), ("sample", 34)])
def test_replicates_are_dealt_whole(base, tmp_path, capsys, column, dealt):
    """Five donors in both groups can be swapped in 15 other ways, 4 samples against 4 be dealt in 34."""
    out = tmp_path / "out.parquet"
    assert run_command("compare", base / "s.parquet", "x", "y", out, "--replicates", column) == 0
    assert "whole replicates were dealt" in " ".join(capsys.readouterr().out.split())
    obs = obs_of(expression()[1])
    assert dealing_of(obs[column]).ways == dealt


def test_an_interrupted_or_second_write_leaves_no_half(base, tmp_path, monkeypatch):
    out = tmp_path / "out.parquet"
    assert run_command("compare", base / "s.parquet", "x", "y", out, "--quiet") == 0
    before = out.read_bytes()
    assert run_command("compare", base / "s.parquet", "x", "z", out, "--quiet", "--overwrite") == 0
    assert out.read_bytes() != before
    monkeypatch.setattr(pq, "write_table", lambda *_, **__: (_ for _ in ()).throw(OSError("No space left on device")))
    again = out.read_bytes()
    assert run_command("compare", base / "s.parquet", "x", "y", out, "--quiet", "--overwrite") == 1
    assert out.read_bytes() == again
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


BAD = {
    "unknown group": (["s.parquet", "x", "w", "o.parquet"], ["no group 'w'", "x, y, z"]),
    "the same group": (["s.parquet", "x", "x", "o.parquet"], ["given twice"]),
    "combined": (["s.parquet", "x", "combined", "o.parquet"], ["no group 'combined'"]),
    "no groups": (["plain.parquet", "x", "y", "o.parquet"], ["no groups", "--by"]),
    "the same file": (["plain.parquet", "plain.parquet", "o.parquet"], ["given twice"]),
    "groups in a file": (["s.parquet", "plain.parquet", "o.parquet"], ["name two of them"]),
    "too few words": (["s.parquet", "o.parquet"], ["four words", "2 are given"]),
    "too many": (["s.parquet", "x", "y", "z", "o.parquet"], ["5 are given"]),
    "no scores": (["m.h5ad", "x", "y", "o.parquet"], ["no scores"]),
    "not there": (["none.parquet", "x", "y", "o.parquet"], ["no such file"]),
    "suffix": (["s.parquet", "x", "y", "o.csv"], [".parquet"]),
    "it exists": (["s.parquet", "x", "y", "theirs.parquet"], ["exists", "--overwrite"]),
    "not ours": (["s.parquet", "x", "y", "theirs.parquet", "--overwrite"], ["did not make it"]),
    "a page of theirs": (["s.parquet", "x", "y", "page.parquet"], ["page.html", "did not make it"]),
    "itself": (["s.parquet", "x", "y", "s.parquet", "--overwrite"], ["what is read"]),
    "no column": (["s.parquet", "x", "y", "o.parquet", "--replicates", "doner"], ["doner", "donor"]),
    "no value": (["s.parquet", "x", "y", "o.parquet", "--replicates", "holes"], ["1 of 400 cells have no value"]),
    "too few": (["s.parquet", "x", "y", "o.parquet", "--replicates", "few"], ["1 against 2", "2 other ways", "5"]),
    "replicates of files": (["plain.parquet", "q.parquet", "o.parquet", "--replicates", "donor"], ["two files"]),
    "within what": (["within.parquet", "x", "y", "o.parquet"], ["batch", "no column"]),
    "within others": (["plain.parquet", "w.parquet", "o.parquet"], ["within nothing", "within depth"]),
    "matrix gone": (["gone.parquet", "x", "y", "o.parquet"], ["is gone", "none.h5ad"]),
    "other cells": (["other.parquet", "x", "y", "o.parquet"], ["had 199 cells", "now has 200"]),
    "codes gone": (["codeless.parquet", "x", "y", "o.parquet"], ["codes", "gone"]),
    "nothing in common": (["plain.parquet", "q.parquet", "o.parquet"], ["no pair in common"]),
}


@pytest.fixture(scope="module")
def bad(base, tmp_path_factory):
    """Beside the good files some that cannot be compared."""
    folder = tmp_path_factory.mktemp("bad")
    for name in ("s.parquet", "m.h5ad"):
        shutil.copyfile(base / name, folder / name)
    codes, group = open_codes(base / "c.zarr"), expression()[1]
    known = {"columns": ["condition"], "names": list(GROUPS)}
    write_grouped(folder / "within.parquet", base, codes, group, within=["batch"])
    write_grouped(folder / "gone.parquet", base, codes, group, matrix={"path": str(folder / "none.h5ad")})
    write_grouped(folder / "other.parquet", base, codes, group, groups={**known, "cells": [199, 200, 40]})
    write_grouped(folder / "codeless.parquet", base, codes, group, codes={"path": str(folder / "none.zarr")})
    write_plain(folder / "plain.parquet")
    write_plain(folder / "q.parquet", [("A", "B", 0.3)])
    write_plain(folder / "w.parquet", within=["depth"])
    pq.write_table(pa.table({"grade": [1]}), folder / "theirs.parquet")
    (folder / "page.html").write_text("<h1>mine</h1>")
    return folder


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_refused_and_nothing_is_written(bad, name, capsys):
    arguments, words = BAD[name]
    before = {path.name: path.stat().st_mtime_ns for path in bad.iterdir()}
    paths = [bad / word if "." in word else word for word in arguments]
    assert run_command("compare", *paths) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pairscape: ")]
    assert len(told) == 1
    assert all(word in told[0] for word in words), told
    assert {path.name: path.stat().st_mtime_ns for path in bad.iterdir()} == before


# ── two files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_plain(path, rows=(("G1", "G2", 0.5), ("G1", "G3", -0.2), ("G2", "G3", 0.1)), cells=103, **facts):
    a, b, r = zip(*rows, strict=True)
    found = {
        "gene_a": np.array(a, object), "gene_b": np.array(b, object), "label": np.full(len(a), -1, np.int8),
        "score": np.linspace(0.9, 0.2, len(a)).astype(np.float32), "dependence": np.ones(len(a), np.float32),
        "correlation": np.array(r, np.float32),
    }  # fmt: skip
    write_scores(path, [pa.table(found)], list(found), {"matrix": {"path": "m", "n_cells": cells}, **facts})
    return path


def test_two_files_are_joined_by_pair_and_have_no_q_value(tmp_path, capsys):
    one = write_plain(tmp_path / "one.parquet")
    other = write_plain(tmp_path / "two.parquet", [("G3", "G2", 0.1), ("G2", "G1", 0.0), ("G9", "G1", 1.0)], 203)
    assert run_command("compare", one, other, tmp_path / "out.parquet") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "one (103 cells) against two (203): 2 pairs; There are no q-values" in told
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert "q_value" not in frame
    assert frame[["gene_a", "gene_b"]].astype(str).values.tolist() == [["G1", "G2"], ["G2", "G3"]]
    assert frame.z.tolist() == pytest.approx([by_hand(0.5, 0.0, 103, 203), 0.0], abs=1e-6)
    assert "not at hand" in (tmp_path / "out.html").read_text()


def test_names_that_are_markup_stay_words(tmp_path):
    bad = "<script>alert(1)</script>"
    one = write_plain(tmp_path / "one.parquet", [(bad, "$x$", 0.4)])
    other = write_plain(tmp_path / f"{'t'}.parquet", [(bad, "$x$", 0.1)])
    assert run_command("compare", one, other, tmp_path / "out.parquet", "--quiet") == 0
    assert "<script" not in (tmp_path / "out.html").read_text()


# ── what is dealt ────────────────────────────────────────────────────────────────────────────────────────────────────


def dealing_of(replicate):
    group = expression()[1].astype(np.uint8)
    return Dealing(group, np.zeros_like(group), pd.factorize(replicate)[0].astype(np.int32))


@settings(max_examples=25)
@given(seed=st.integers(0, 99), strata=st.integers(1, 5), number=st.integers(0, 9))
def test_dealt_cells_keep_their_depth(seed, strata, number):
    rng = np.random.default_rng(seed)
    group, stratum = rng.integers(0, 3, 90).astype(np.uint8), rng.integers(0, strata, 90).astype(np.uint8)
    dealt = Dealing(group, stratum, seed=seed).deal(number)
    assert ((dealt == OTHER) == (group == OTHER)).all()
    for k in range(strata):
        assert (
            np.bincount(dealt[stratum == k], minlength=3).tolist()
            == np.bincount(group[stratum == k], minlength=3).tolist()
        )


def test_a_deal_moves_cells_and_another_number_moves_others():
    group, stratum = np.arange(300, dtype=np.uint8) % 2, np.repeat(np.arange(3, dtype=np.uint8), 100)
    deals = np.stack([Dealing(group, stratum, seed=1).deal(number) for number in range(60)])
    share = (deals == FIRST).mean(0)
    assert 0.2 < share.min() < share.max() < 0.8  # no cell stays where it is


@settings(max_examples=40)
@given(first=st.integers(1, 5), second=st.integers(1, 5), paired=st.booleans())
def test_replicates_are_dealt_in_every_other_way_once(first, second, paired):
    """All ways by brute force; naming the groups the other way round is no other way."""
    if paired:
        second = first
    donors = [*range(first), *(range(second) if paired else range(10, 10 + second))]
    group = np.repeat([FIRST, SECOND], [first, second]).astype(np.uint8)
    cells = np.repeat(np.arange(len(donors)), 3)
    dealing = Dealing(group[cells], np.zeros(cells.size, np.uint8), np.array(donors, np.int32)[cells])
    n = first + second
    expected = 2 ** (first - 1) - 1 if paired else comb(n, first) // (1 + (first == second)) - 1
    assert dealing.ways == expected
    if not expected:
        return
    found = [dealing.deal(k) for k in range(expected)]
    canonical = {min(way.tobytes(), (1 - way).tobytes()) for way in found}
    assert len(canonical) == expected
    assert min(dealing.group.tobytes(), (1 - dealing.group).tobytes()) not in canonical
    for way in found:
        assert all(np.unique(way[cells == unit]).size == 1 for unit in range(n))
        if paired:
            assert all(sorted(way[[3 * d, 3 * (d + first)]].tolist()) == [0, 1] for d in range(first))
        else:
            assert sorted(np.bincount(way, minlength=2)) == sorted(np.bincount(dealing.group, minlength=2))


@pytest.mark.parametrize(("stratum", "overlap"), [
    (np.arange(100) // 2 % 5, 1.0),
    (np.arange(100) % 2, 0.0),
    (np.where(np.arange(100) < 50, 0, 1 + np.arange(100) % 2), 0.5),
])  # fmt: skip
def test_overlap_of_depth(stratum, overlap):
    assert Dealing((np.arange(100) % 2).astype(np.uint8), stratum.astype(np.uint8)).overlap == pytest.approx(overlap)


def test_many_replicates_are_drawn():
    """Of 40 donors nobody lists all ways."""
    cells = np.arange(400)
    dealing = Dealing((cells % 2).astype(np.uint8), np.zeros(400, np.uint8), (cells // 2 % 20).astype(np.int32))
    assert dealing.others is None
    assert dealing.paired
    first, second = dealing.deal(0), dealing.deal(1)
    assert (first != second).any()
    assert all((a != b) for a, b in first.reshape(-1, 2))


def test_dealt_changes_are_what_scipy_says(base):
    codes = open_codes(base / "c.zarr")
    group = expression()[1].astype(np.uint8)
    cells_depth, expressing = survey_cells(codes, group)
    stratum = strata_of_groups(group, np.zeros_like(group), cells_depth, 0)
    held = codes.read(np.arange(GENES), slice(0, CELLS))
    assert expressing.tolist() == [(held[:, group == g] > 0).sum(1).tolist() for g in (0, 1)]
    depth = (held > 0).sum(0)[group != OTHER]
    for low, high in pairwise(range(int(stratum.max()) + 1)):
        assert depth[stratum[group != OTHER] == low].max() <= depth[stratum[group != OTHER] == high].min()
    recount = Recount(codes, portion(codes.binning, CELLS, 1.0, None), Dealing(group, stratum, seed=4))
    pairs = all_pairs(GENES)
    (run,) = runs_of(pairs.gene_a, pairs.gene_b, 1000)
    dealt = recount.dealing.deal(2)
    sides = [correlations(held[:, dealt == g], pairs.gene_a, pairs.gene_b) for g in (0, 1)]
    assert recount.changes(run, dealt) == pytest.approx(by_hand(*sides, 200, 200), abs=1e-9)
    images = recount.images(run)
    a, b = int(run.gene_a[5]), int(run.gene_b[5])
    right = np.histogram2d(held[b, group == 0], held[a, group == 0], bins=17, range=[[0, 17]] * 2)[0]
    zero = codes.array("edges")
    assert images[0][5].sum() == 200
    assert (images[0][5][1:, 1:] >= right[2:, 2:]).all()
    assert zero.shape[0] == GENES


@pytest.mark.parametrize("seed", range(3))
def test_two_halves_of_independent_cells_differ_in_nothing(base, seed):
    codes = open_codes(base / "c.zarr")
    group = np.where(expression()[1] == 1, np.random.default_rng(seed).permutation(CELLS) % 2, OTHER).astype(np.uint8)
    stratum = strata_of_groups(group, np.zeros_like(group), survey_cells(codes, group)[0], seed)
    recount = Recount(codes, portion(codes.binning, CELLS, 1.0, None), Dealing(group, stratum, seed=seed))
    found = all_pairs(GENES)
    pairs = Pairs(found.gene_a, found.gene_b, found.label)
    (run,) = runs_of(pairs.gene_a, pairs.gene_b, 1000)
    seen = np.abs(recount.changes(run, group))
    assert (q_values(seen, null_changes(recount, pairs, Session())) > 0.05).all()


@pytest.mark.parametrize("within", [("donor",), ("depth",), ("donor", "depth")])
def test_within_strata_the_ranks_are_taken_less_their_means_there(base, tmp_path, within):
    """By numpy: ranks over the cells of a group, less the mean of their stratum; dealt inside the strata too."""
    codes, group = open_codes(base / "c.zarr"), expression()[1]
    write_grouped(tmp_path / "s.parquet", base, codes, group, within=["condition", *within])
    assert run_command("compare", tmp_path / "s.parquet", "x", "y", tmp_path / "o.parquet", "--quiet") == 0
    frame = (
        pd.read_parquet(tmp_path / "o.parquet").astype({"gene_a": str, "gene_b": str}).set_index(["gene_a", "gene_b"])
    )
    held = codes.read(np.arange(GENES), slice(0, CELLS))
    donor = np.arange(CELLS) % 5 if "donor" in within else np.zeros(CELLS, np.int64)
    depth = survey_cells(codes, group.astype(np.uint8))[0]
    stratum = strata_of_groups(group.astype(np.uint8), donor, depth, 0) if "depth" in within else donor
    for number, name in enumerate(("correlation_1", "correlation_2")):
        members = group == number
        rank = rankdata(held[:, members], axis=1)
        for k in np.unique(stratum[members]):
            there = stratum[members] == k
            rank[:, there] -= rank[:, there].mean(1, keepdims=True)
        right = np.nan_to_num(np.corrcoef(rank) if rank.any(1).all() else _corr(rank))
        for a, b in [(0, 1), (2, 3), (5, 9), (4, 6)]:
            assert frame[name][f"G{a:02}", f"G{b:02}"] == pytest.approx(right[a, b], abs=1e-6)
    assert frame.index[0] == ("G00", "G01")


def _corr(centred):
    """Correlation of centred values, 0 where a gene has none."""
    squares = np.sqrt((centred**2).sum(1))
    return centred @ centred.T / np.maximum(np.outer(squares, squares), 1e-12)


def test_a_correlation_of_one_stays_finite():
    found = correlation_change(np.array([1.0, -1.0, 1.0]), np.array([1.0, 1.0, 0.0]), (10, 10))
    assert np.isfinite(found).all()
    assert found[0] == 0
    assert found[1] < 0 < found[2]


@pytest.mark.parametrize(("cells", "words"), [((19, 100), "19 and 100 cells"), ((100, 3), "100 and 3 cells")])
def test_small_groups_are_refused(cells, words):
    group = np.repeat([FIRST, SECOND], cells).astype(np.uint8)
    with pytest.raises(InputError, match=words):
        Dealing(group, np.zeros_like(group)).check()
