"""Pooled scores are what their formulas say of any set of files, in any parts; what cannot be pooled is refused."""

import json
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscape.model.edges import score_sets
from pairscape.model.edges.scores import read_facts, read_scores, write_scores
from pairscape.model.reports.explorer.opening import open_explorer
from typed import run_command

GENES = [f"G{i}" for i in range(14)]
CELLS = (100, 400, 900)


def facts(number=0, **more):
    model = {"run": "universal", "weights": "f11c", "scale": "rank", "bins": 32}
    return {
        "model": model, "matrix": {"path": f"m{number}.zarr", "n_cells": CELLS[number]}, "prior": 0.2, "pairs": {},
        **more,
    }  # fmt: skip


def table(number, genes=GENES, share=0.8, **columns):
    """A share of all pairs of the genes, some the other way round; a tenth without a score."""
    rng = np.random.default_rng(number)
    a, b = np.triu_indices(len(genes), 1)
    kept = rng.permutation(a.size)[: round(share * a.size)]
    turned = rng.random(kept.size) < 0.4
    a, b = np.where(turned, b[kept], a[kept]), np.where(turned, a[kept], b[kept])
    out = rng.random(a.size) < 0.1
    found = {
        "gene_a": np.array(genes, object)[a],
        "gene_b": np.array(genes, object)[b],
        "label": rng.integers(-1, 2, a.size).astype(np.int8),
        "score": pa.array(rng.uniform(0.01, 0.99, a.size), pa.float32(), mask=out),
        "kind": pa.array(np.array(["rising", "falling", "u-shaped"])[rng.integers(3, size=a.size)], mask=out),
        "kind_probability": pa.array(rng.random(a.size), pa.float32(), mask=out),
        "dependence": rng.random(a.size).astype(np.float32),
        "correlation": rng.uniform(-0.6, 0.6, a.size).astype(np.float32),
    }
    return pa.table(found | columns)


def write(path, found, known, rows=40):
    write_scores(path, [found[i : i + rows] for i in range(0, found.num_rows, rows)], found.column_names, known)
    return path


@pytest.fixture
def files(tmp_path):
    return [write(tmp_path / f"s{number}.parquet", table(number), facts(number)) for number in range(3)]


def by_pair(path):
    """Rows of a file by the unordered pair."""
    return {frozenset((row["gene_a"], row["gene_b"])): row for row in read_scores(path).to_pylist()}


def logit(p):
    return float(np.log(p) - np.log1p(-p))


def expected(sets, pair, cells=CELLS):
    """What is known of a pair, by the formulas of docs/combine.md, from the rows as Python has them."""
    seen = [(rows[pair], n) for rows, n in zip(sets, cells, strict=True) if pair in rows]
    evidence = [0 if row["score"] is None else logit(row["score"]) - logit(0.2) for row, _ in seen]
    rho = [row["correlation"] for row, _ in seen]
    return {
        "mean_z": np.mean([np.sqrt(n) * r for r, (_, n) in zip(rho, seen, strict=True)]),
        "correlation": np.tanh(np.average(np.arctanh(rho), weights=[n for _, n in seen])),
        "log_odds": sum(np.sign(r) * max(e, 0) for r, e in zip(rho, evidence, strict=True)),
        "sum": logit(0.2) + sum(evidence),
        "sets": len(seen),
        "dependence": np.mean([row["dependence"] for row, _ in seen]),
        "kind": seen[int(np.argmax(evidence))][0]["kind"],
        "label": next((row["label"] for row, _ in seen if row["label"] >= 0), -1),
        "first": (seen[0][0]["gene_a"], seen[0][0]["gene_b"]),
    }


@pytest.mark.parametrize("part_rows", [2**22, 25, 1])
@pytest.mark.parametrize("rule", ["mean-z", "log-odds", "mean-rank"])
def test_every_pair_is_pooled_by_the_formulas(files, tmp_path, monkeypatch, rule, part_rows):
    """Over one part or many, and the bytes are the same."""
    assert run_command("combine", *files, tmp_path / "whole.parquet", "--rule", rule) == 0
    monkeypatch.setattr(score_sets, "PART_ROWS", part_rows)
    assert run_command("combine", *files, tmp_path / "out.parquet", "--rule", rule) == 0
    sets, found = [by_pair(path) for path in files], by_pair(tmp_path / "out.parquet")
    assert read_scores(tmp_path / "out.parquet").equals(read_scores(tmp_path / "whole.parquet"))
    assert found.keys() == set().union(*sets)
    size = [{pair: abs(row["correlation"]) for pair, row in rows.items()} for rows in sets]
    for pair, row in found.items():
        right = expected(sets, pair)
        for name in ("mean_z", "correlation", "log_odds", "dependence"):
            assert row[name] == pytest.approx(right[name], abs=2e-5), name
        assert (row["sets"], row["label"], row["kind"]) == (right["sets"], right["label"], right["kind"])
        assert (row["gene_a"], row["gene_b"]) == right["first"]
        if rule == "mean-z":
            assert row["score"] == pytest.approx(abs(right["mean_z"]) / (1 + abs(right["mean_z"])), abs=1e-5)
        elif rule == "log-odds" and all(rows[pair]["score"] is None for rows in sets if pair in rows):
            assert row["score"] is None
        elif rule == "log-odds" and abs(right["sum"]) <= 6:
            assert row["score"] == pytest.approx(1 / (1 + np.exp(-right["sum"])), abs=1e-5)
        elif rule == "mean-rank":
            ranks = [
                np.sign(rows[pair]["correlation"]) * np.mean([s <= sizes[pair] for s in sizes.values()])
                for rows, sizes in zip(sets, size, strict=True)
                if pair in rows
            ]
            assert row["score"] == pytest.approx(abs(np.mean(ranks)), abs=1e-6)


def test_evidence_of_many_sets_still_orders_pairs(tmp_path):
    """Where float32 would call all of them certain."""
    score = np.linspace(0.99, 0.999, 91).astype(np.float32)
    files = [
        write(tmp_path / f"{n}.parquet", table(n, share=1).set_column(3, "score", [score]), facts(n)) for n in range(3)
    ]
    assert run_command("combine", *files, tmp_path / "out.parquet", "--rule", "log-odds", "--quiet") == 0
    sets, found = [by_pair(path) for path in files], by_pair(tmp_path / "out.parquet")
    order = sorted(found, key=lambda pair: expected(sets, pair)["sum"])
    scores = [found[pair]["score"] for pair in order]
    assert scores == sorted(scores)
    assert len(set(scores)) > 80
    assert max(scores) < 1


def test_the_file_says_what_it_was_made_of(files, tmp_path, capsys):
    assert run_command("combine", *files, tmp_path / "out.parquet", "--prior", "0.1") == 0
    known = read_facts(tmp_path / "out.parquet")
    assert known["prior"] == 0.1
    assert [one["cells"] for one in known["combined"]["sets"]] == list(CELLS)
    assert [one["file"] for one in known["combined"]["sets"]] == [str(path) for path in files]
    said = capsys.readouterr().out
    assert "pairs; seen" in said
    assert "rows have no score (the screen kept them from the network)" in said
    assert run_command("export", tmp_path / "out.parquet", tmp_path / "net.csv", "--top", "5") == 0
    assert run_command("report", tmp_path / "out.parquet") == 2
    assert "its scores are no probabilities" in capsys.readouterr().err


def test_pictures_are_those_of_the_files_that_were_pooled(files, tmp_path, capsys):
    assert run_command("combine", *files, tmp_path / "out.parquet", "--quiet") == 0
    assert run_command("show", tmp_path / "out.parquet", "G0", "G1", "-o", tmp_path / "pair.png") == 2
    told = capsys.readouterr().err
    assert all(str(path) in told for path in files)


@pytest.mark.parametrize("rule", ["mean-z", "mean-rank", "log-odds"])
def test_scores_that_are_no_probabilities_are_never_told_as_such(files, tmp_path, capsys, rule):
    """By export, modules and the explorer, as by the report."""
    pooled, edges = tmp_path / "out.parquet", ("--top", "20")
    assert run_command("combine", *files, pooled, "--rule", rule, "--quiet") == 0
    assert run_command("export", pooled, tmp_path / "edges.tsv", *edges) == 0
    told = capsys.readouterr().out
    assert run_command("modules", pooled, tmp_path / "modules.tsv", "--quiet") == (0 if rule == "log-odds" else 2)
    refused = capsys.readouterr().err
    words = open_explorer(pooled, None, None, lambda *_: None).words()["scoreIs"]
    if rule == "log-odds":
        assert "% by their scores at a prior" in told
        assert words.startswith("probability of dependence")
    else:
        assert f"scores pooled by {rule} are no probabilities" in told
        assert "% by their scores" not in told
        assert f"pooled by {rule}" in refused
        assert "no probability" in words
        assert run_command("modules", pooled, tmp_path / "modules.tsv", *edges, "--quiet") == 0


def test_genes_are_matched_by_id_symbol_case_and_map(tmp_path, capsys):
    """Ids with symbols, symbols alone, and another species through its orthologues; partners of two are left out."""
    human = [f"ENSG{i:011d}" for i in range(6)]
    symbols = ["AAA1", "BBB2", "CCC3", "DDD4", "EEE5", "FFF6"]
    first = table(0, human, share=1)
    named = dict(zip(human, symbols, strict=True))
    for end in "ab":
        first = first.append_column(f"symbol_{end}", pa.array([named[g] for g in first[f"gene_{end}"].to_pylist()]))
    mouse = ["Aaa1", "Bbb2", "Ccc3", "Ddd4a", "Ddd4b", "Gm10"]
    files = [
        write(tmp_path / "ids.parquet", first, facts(0)),
        write(tmp_path / "symbols.parquet", table(1, symbols[:5], share=1), facts(1)),
        write(tmp_path / "mouse.parquet", table(2, mouse, share=1), facts(2)),
    ]
    (tmp_path / "map.csv").write_text("AAA1,Aaa1\nBBB2,Bbb2\nCCC3,Ccc3\nDDD4,Ddd4a\nDDD4,Ddd4b\nEEE5,\n")
    assert run_command("combine", *files, tmp_path / "out.parquet", "--gene-map", tmp_path / "map.csv") == 0
    rows = read_scores(tmp_path / "out.parquet").to_pylist()
    assert {row["gene_a"] for row in rows} | {row["gene_b"] for row in rows} == set(human)
    seen = {frozenset((row["symbol_a"], row["symbol_b"])): row["sets"] for row in rows}
    assert seen[frozenset(("AAA1", "BBB2"))] == 3
    assert seen[frozenset(("AAA1", "DDD4"))] == 2
    assert seen[frozenset(("AAA1", "FFF6"))] == 1
    said = capsys.readouterr().out
    assert "mouse.parquet: 1 genes have no partner in the other files: left out (Gm10)" in said
    assert (
        "mouse.parquet: 2 genes match several, or share their match with another gene: left out (Ddd4a, Ddd4b)" in said
    )
    assert run_command("combine", *files[:2], tmp_path / "case.parquet", "--ignore-case", "--quiet") == 0


def test_regulators_keep_their_targets(tmp_path):
    """Where the first gene is a regulator in all files, (a, b) is not (b, a)."""
    two = pa.table({
        "gene_a": ["T", "U"], "gene_b": ["U", "T"], "label": pa.array([-1, -1], pa.int8()), "score": [0.9, 0.2],
        "dependence": [1.0, 1.0], "correlation": [0.5, 0.5],
    })  # fmt: skip
    files = [write(tmp_path / f"{n}.parquet", two, facts(n, pairs={"pairs": {"regulators": "tf.txt"}})) for n in (0, 1)]
    assert run_command("combine", *files, tmp_path / "out.parquet", "--quiet") == 0
    found = read_scores(tmp_path / "out.parquet").to_pylist()
    assert [(row["gene_a"], row["gene_b"], row["sets"]) for row in found] == [("T", "U", 2), ("U", "T", 2)]


def test_a_pair_that_a_file_has_twice_counts_once(files, tmp_path, capsys):
    again = table(0)
    turned = again.rename_columns(["gene_b", "gene_a", *again.column_names[2:]]).select(again.column_names)
    twice = write(tmp_path / "twice.parquet", pa.concat_tables([again, turned]), facts(0, seed=1))
    assert run_command("combine", twice, files[1], tmp_path / "out.parquet") == 0
    assert f"{again.num_rows:,} rows named a pair that the file has already" in capsys.readouterr().out
    assert run_command("combine", files[0], files[1], tmp_path / "right.parquet", "--quiet") == 0
    assert read_scores(tmp_path / "out.parquet").equals(read_scores(tmp_path / "right.parquet"))


@pytest.fixture
def grouped(tmp_path):
    """A file with the rows of all cells and of two types."""
    types = ["combined", "B", "T"]
    parts = [table(n).append_column("group", pa.array([name] * table(n).num_rows)) for n, name in enumerate(types)]
    known = facts(2, groups={"columns": ["type"], "names": ["B", "T"], "cells": [400, 900]})
    path = tmp_path / "by.parquet"
    write_scores(path, parts, parts[0].column_names, known)
    return path


def test_groups_of_one_file_are_sets(grouped, files, tmp_path):
    assert run_command("combine", grouped, tmp_path / "out.parquet", "--quiet") == 0
    pair, found = by_pair(files[1]).keys() & by_pair(files[2]).keys(), by_pair(tmp_path / "out.parquet")
    sets = [by_pair(files[1]), by_pair(files[2])]
    for one in pair:
        assert found[one]["mean_z"] == pytest.approx(expected(sets, one, CELLS[1:])["mean_z"], abs=2e-5)


@pytest.mark.parametrize("asked", [(), ("--group", "combined")])
def test_all_cells_of_a_file_with_groups(grouped, files, tmp_path, asked):
    assert run_command("combine", grouped, files[1], tmp_path / "out.parquet", *asked, "--quiet") == 0
    sets, found = [by_pair(files[0]), by_pair(files[1])], by_pair(tmp_path / "out.parquet")
    for one in found:
        assert found[one]["mean_z"] == pytest.approx(expected(sets, one, (900, 400))["mean_z"], abs=2e-5)


def test_one_group_of_each_file(grouped, files, tmp_path, capsys):
    other = tmp_path / "other.parquet"
    held = pq.read_table(grouped)
    kept = json.loads(held.schema.metadata[b"pairscape"]) | {"seed": 1}
    again = held.replace_schema_metadata({b"pairscape": json.dumps(kept)})
    pq.write_table(again, other, row_group_size=held.num_rows // 3)
    assert run_command("combine", grouped, other, tmp_path / "out.parquet", "--group", "B", "--quiet") == 0
    sets, found = [by_pair(files[1])] * 2, by_pair(tmp_path / "out.parquet")
    assert found.keys() == sets[0].keys()
    for one in found:
        assert found[one]["mean_z"] == pytest.approx(expected(sets, one, (400, 400))["mean_z"], abs=2e-5)
    assert run_command("combine", grouped, other, tmp_path / "no.parquet", "--group", "NK") == 2
    assert "no group 'NK'; it has B, T" in capsys.readouterr().err


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Bad:
    words: str
    name: str = "out.parquet"
    options: list = field(default_factory=list)
    second: tuple = (1, {}, {})  # number of the table, facts, columns of the second file
    files: int = 2
    prepare: object = None


def other_genes(number):
    return table(number, [f"X{i}" for i in range(9)])


MODEL = facts()["model"]
BAD = {
    "one file": Bad("is one set, and pooling takes two or more", files=1),
    "not parquet": Bad("does not end in .parquet", name="out.csv"),
    "out exists": Bad("exists: give another name", prepare=lambda place: (place / "out.parquet").write_bytes(b"x")),
    "out is another's": Bad("holds no scores of Pairscape", options=["--overwrite"],
                            prepare=lambda place: (place / "out.parquet").write_bytes(b"x")),
    "out is read": Bad("is what is read", name="s0.parquet", options=["--overwrite"]),
    "twice": Bad("has the same content as", second=(0, {}, {})),
    "another network": Bad("differ in the network", second=(1, {"model": MODEL | {"weights": "0000"}}, {})),
    "another binning": Bad("differ in the rule of binning", second=(1, {"model": MODEL | {"bins": 16}}, {})),
    "within": Bad("differ in the --within", second=(1, {"within": ["depth"]}, {})),
    "no cells": Bad("does not say how many cells", second=(1, {"matrix": {}}, {})),
    "no prior": Bad("at which prior", second=(1, {"prior": None}, {})),
    "combined": Bad("is pooled from other files", second=(1, {"combined": {}}, {})),
    "direction": Bad("says which way an edge points",
                     second=(1, {}, {"forward": np.full(73, 0.5, np.float32)})),
    "no group": Bad("no group 'B'", options=["--group", "B"]),
    "no scores": Bad("no such file", prepare=lambda place: (place / "s1.parquet").unlink()),
    "no file of scores": Bad("holds no scores of Pairscape", prepare=lambda place: pq.write_table(
        pa.table({"a": [1]}), place / "s1.parquet")),
    "no gene map": Bad("absent.csv", options=["--gene-map", "absent.csv"]),
    "useless gene map": Bad("the gene map matches no gene", options=["--gene-map", "MAP"],
                            prepare=lambda place: (place / "MAP").write_text("QQ1,RR1\n")),
    "no prior at all": Bad("prior is 1.0", options=["--prior", "1"]),
    "no rule": Bad("rule", options=["--rule", "median"]),
    "other species": Bad("--ignore-case", prepare=lambda place: write(
        place / "s1.parquet", table(1, [g.lower() for g in GENES]), facts(1))),
    "no gene in common": Bad("shares no gene with the other files", prepare=lambda place: write(
        place / "s1.parquet", other_genes(1), facts(1))),
    "no gold": Bad("absent.csv", options=["--learn", "absent.csv"]),
    "gold of others": Bad("of the 2 genes of", options=["--learn", "GOLD"],
                          prepare=lambda place: (place / "GOLD").write_text("gene_a,gene_b\nQ1,Q2\n")),
    "gold without a pair": Bad("no pair has both genes in the files", options=["--learn", "GOLD"],
                               prepare=lambda place: (place / "GOLD").write_text("gene_a,gene_b\nG1,Q2\n")),
    "short gold": Bad("of each are needed to learn from", options=["--learn", "GOLD"],
                      prepare=lambda place: (place / "GOLD").write_text("gene_a,gene_b\nG1,G2\nG3,G4\n")),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_cannot_be_pooled_is_refused(tmp_path, monkeypatch, capsys, bad):
    monkeypatch.chdir(tmp_path)
    number, known, columns = bad.second
    write(tmp_path / "s0.parquet", table(0), facts(0))
    write(tmp_path / "s1.parquet", table(number, **columns), facts(number) | known)
    if bad.prepare is not None:
        bad.prepare(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert run_command("combine", "s0.parquet", *["s1.parquet"][: bad.files - 1], bad.name, *bad.options) == 2
    assert bad.words in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_mixed_networks_are_pooled_if_asked(tmp_path, files):
    other = write(tmp_path / "other.parquet", table(1), facts(1, model=MODEL | {"weights": "0000"}))
    assert run_command("combine", files[0], other, tmp_path / "out.parquet", "--mixed", "--quiet") == 0


def test_sets_without_a_common_pair_are_said(tmp_path, capsys):
    files = [
        write(tmp_path / "a.parquet", table(0, GENES[:6]), facts(0)),
        write(tmp_path / "b.parquet", table(1, ["G0", *GENES[6:]]), facts(1)),
    ]
    assert run_command("combine", *files, tmp_path / "out.parquet") == 0
    assert "no pair is in two sets or more: nothing was pooled" in capsys.readouterr().out
