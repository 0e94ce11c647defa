"""Correlations through the main factors are those of the formula, by any parts, of one set or several."""

import numpy as np
import pyarrow as pa
import pytest

from pairscape.model.edges import factors, score_sets
from pairscape.model.edges.scores import read_facts, read_scores, write_scores
from typed import run_command

GENES = [f"G{i}" for i in range(120)]
MODULE = np.arange(120) % 4  # of each gene
CELLS = (100, 400)


def correlations(seed, shift=0.1, noise=0.1):
    """(G, G) symmetric: genes of a module correlate by `shift`, and gene 0 with all genes alike."""
    rng = np.random.default_rng(seed)
    made = rng.normal(shift * (MODULE[:, None] == MODULE), noise)
    made[0] += 0.3
    upper = np.triu(np.clip(made, -0.9, 0.9), 1)
    return upper + upper.T


def write_set(path, rho, cells, genes=GENES, share=1.0, rows=700):
    """A share of the pairs of a matrix of correlations, every third the other way round, in small row groups."""
    a, b = np.triu_indices(len(genes), 1)
    kept = np.random.default_rng(cells).random(a.size) < share
    a, b = a[kept], b[kept]
    turned = np.arange(a.size) % 3 == 0
    a, b = np.where(turned, b, a), np.where(turned, a, b)
    names = np.array(genes, object)
    found = pa.table({
        "gene_a": names[a], "gene_b": names[b], "label": np.full(a.size, -1, np.int8),
        "score": np.full(a.size, 0.5, np.float32), "dependence": np.abs(rho[a, b]),
        "correlation": rho[a, b].astype(np.float32),
    })  # fmt: skip
    known = {"model": {"run": "universal", "weights": "f"}, "matrix": {"n_cells": cells}, "prior": 0.5, "pairs": {}}
    write_scores(path, [found[i : i + rows] for i in range(0, a.size, rows)], found.column_names, known)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    place = tmp_path_factory.mktemp("factors")
    return [write_set(place / f"s{n}.parquet", correlations(n), cells) for n, cells in enumerate(CELLS)]


def expected(matrices, cells):
    """The formula of docs/combine.md with numpy alone."""
    total, other = np.zeros((len(GENES),) * 2), ~np.eye(len(GENES), dtype=bool)
    for rho, n in zip(matrices, cells, strict=True):
        z = np.sqrt(n) * rho
        mean = z.sum(1) / (len(GENES) - 1)
        total += z - mean[:, None] - mean + z[other].mean()
    value, vector = np.linalg.eigh(np.where(other, total, 0))
    loading = vector[:, -factors.MAIN_FACTORS :] * np.sqrt(np.maximum(value[-factors.MAIN_FACTORS :], 0))
    told = (loading**2).sum(1)
    loading /= np.sqrt(told + factors.SHRUNKEN * np.median(told))[:, None]
    return loading @ loading.T


def by_pair(path, column):
    """(G, G) of a column, 0 where there is no row."""
    found = np.zeros((len(GENES), len(GENES)))
    for row in read_scores(path).to_pylist():
        a, b = (GENES.index(row[end]) for end in ("gene_a", "gene_b"))
        found[a, b] = found[b, a] = row[column]
    return found


@pytest.mark.parametrize("number", [1, 2])
def test_correlations_are_those_of_the_formula(files, tmp_path, number):
    """Of one set and of two; the score is their size."""
    out = tmp_path / "out.parquet"
    assert run_command("combine", *files[:number], out, "--rule", "factors") == 0
    right = expected([correlations(n) for n in range(number)], CELLS[:number])
    found, (a, b) = by_pair(out, "factor_correlation"), np.triu_indices(len(GENES), 1)
    np.testing.assert_allclose(found[a, b], right[a, b], atol=2e-3)
    np.testing.assert_allclose(by_pair(out, "score")[a, b], np.abs(found[a, b]), atol=1e-6)
    assert read_facts(out)["combined"]["rule"] == "factors"


def test_what_many_pairs_share_is_told_from_noise(files, tmp_path):
    """Better than by any pair's own mean z, and a gene that goes along with all others is not in every module."""
    out = tmp_path / "out.parquet"
    assert run_command("combine", *files, out, "--rule", "factors", "--quiet") == 0
    a, b = np.triu_indices(len(GENES), 1)
    same = (MODULE[a] == MODULE[b]) & (a > 0)
    through, own = by_pair(out, "factor_correlation")[a, b], by_pair(out, "mean_z")[a, b]
    auroc = [np.mean(score[same][:, None] > score[~same]) for score in (through, own)]
    assert auroc[0] > 0.92 > 0.85 > auroc[1], auroc
    assert through[a == 0].mean() < through[same].mean() / 2 < own[same].mean() < own[a == 0].mean()


def test_scores_are_never_told_as_probabilities(files, tmp_path, capsys):
    out = tmp_path / "out.parquet"
    assert run_command("combine", files[0], out, "--rule", "factors", "--quiet") == 0
    assert run_command("export", out, tmp_path / "edges.tsv", "--top", "20") == 0
    assert "scores pooled by factors are no probabilities" in capsys.readouterr().out
    assert run_command("report", out) == 2
    assert "no probabilities" in capsys.readouterr().err


def test_parts_do_not_change_a_byte(files, tmp_path, monkeypatch):
    assert run_command("combine", *files, tmp_path / "whole.parquet", "--rule", "factors") == 0
    monkeypatch.setattr(score_sets, "PART_ROWS", 900)
    assert run_command("combine", *files, tmp_path / "parts.parquet", "--rule", "factors") == 0
    assert read_scores(tmp_path / "parts.parquet").equals(read_scores(tmp_path / "whole.parquet"))


def test_a_constant_gene_correlates_with_none(tmp_path):
    rho = correlations(0)
    rho[5] = rho[:, 5] = np.nan
    out = tmp_path / "out.parquet"
    assert run_command("combine", write_set(tmp_path / "s.parquet", rho, 100), out, "--rule", "factors") == 0
    assert np.isfinite(by_pair(out, "factor_correlation")).all()


@pytest.mark.parametrize(
    ("n_genes", "share", "most", "words"),
    [
        (40, 1.0, 20_000, "pairs of 40 genes, and what many genes share takes 100 or more"),
        (120, 0.3, 20_000, "of all pairs of their 120 genes, and the factors take 0.5"),
        (120, 1.0, 110, "the files have 120 genes, whose matrix would take 0.0 GB"),
    ],
)
def test_what_has_no_factors_is_refused(tmp_path, capsys, monkeypatch, n_genes, share, most, words):
    """And nothing is written."""
    monkeypatch.setattr(factors, "MOST_GENES", most)
    path = write_set(tmp_path / "s.parquet", correlations(0)[:n_genes, :n_genes], 100, GENES[:n_genes], share)
    assert run_command("combine", path, tmp_path / "out.parquet", "--rule", "factors") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


def test_learned_weights_take_the_factors_where_they_are(files, tmp_path, capsys):
    """They are ahead of the weights of the sets alone, judged on genes that were not seen."""
    pairs = [(a, b) for i, a in enumerate(range(120)) for b in range(i + 1, 120) if MODULE[a] == MODULE[b]]
    lines = [f"G{a},G{b},C{a // 12}" for a, b in pairs if a // 12 == b // 12]
    (tmp_path / "gold.csv").write_text("\n".join(["gene_a,gene_b,complex", *lines]) + "\n")
    thin = [write_set(tmp_path / f"t{n}.parquet", correlations(n), cells, share=0.2) for n, cells in enumerate(CELLS)]
    found = {}
    for name, some in (("all", files), ("thin", thin)):
        out = tmp_path / f"{name}.parquet"
        assert run_command("combine", *some, out, "--learn", tmp_path / "gold.csv") == 0
        found[name] = read_facts(out)["combined"]["learned"], capsys.readouterr().out
    learned, said = found["all"]
    assert learned["factor_weight"] > 0
    assert learned["audit"]["auroc"]["learned"] > learned["audit"]["auroc"]["mean z"]
    assert "factors" in learned["audit"]["auroc"]
    assert "without factors" not in said
    assert found["thin"][0]["factor_weight"] is None
    assert "learned without factors of all pairs: the files hold 0." in found["thin"][1]
