"""Prediction: the scores of heatmaps and network, whatever computes them; resumed, screened, refused."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats

import pairscape
from model_fixtures import facts_of, make_store, module_expression, module_pairs, run_command, write_pairs
from pairscape.model.edges.scores import ALWAYS, read_facts, read_scores
from pairscape.model.evaluation.association import dependence, spearman
from pairscape.model.evaluation.measure import PairSample
from pairscape.model.evaluation.reference import make_reference, save_reference
from pairscape.model.networks.classifier import PairClassifier, TrainedNetwork, score_rows
from pairscape.model.networks.fast import prepare
from pairscape.model.networks.pairnet import GENE_LOADINGS
from pairscape.model.networks.weights import save_weights, write_config
from pairscape.model.options import Prediction, Recipe, Rendering
from pairscape.model.prediction import parts, predict
from pairscape.model.prediction.confidence import confidence_bytes
from pairscape.model.prediction.screen import place_threshold, sample_rows, screen_facts
from pairscape.model.prediction.trained import TrainedRun, moved_probability
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.memory import Portion
from pairscape.pipeline.options import Binning, Compute, PairSource

HERE, BINS, PART, NATURAL = Compute("synchronous"), 16, 32, 0.02
POINTS = [{"aim": "balanced accuracy", "threshold": 0.03}, {"aim": "precision 0.9", "threshold": None}]


def give_opinions(classifier, classes):
    """Scale the last layer of fresh weights, so that pictures of any correlation are told apart."""
    rng, images = np.random.default_rng(0), []
    for rho in np.linspace(-0.9, 0.9, 32):
        x, y = stats.norm.cdf(rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 200).T)
        images.append(np.histogram2d(x, y, bins=BINS, range=[[0, 1], [0, 1]])[0].T)
    last = [m for m in classifier.modules() if isinstance(m, torch.nn.Linear) and m.out_features == classes][-1]
    counts, none = torch.tensor(np.array(images), dtype=torch.int32), torch.zeros(32, dtype=torch.int32)
    with torch.no_grad():
        last.bias.zero_()
        if classifier.needs_neighbours:
            classifier.network.head[1].weight[:, 512:] *= 0.02  # of the genes: real ones look unlike these
        around = [counts[:1].expand(1, 11, -1, -1), none[:11][None]]
        genes = classifier.describe(*around).expand(32, 2, -1) if classifier.needs_neighbours else None
        if classifier.needs_loadings:
            genes = torch.zeros(32, 2, GENE_LOADINGS)
        logits = classifier(counts, none, genes)
        factor = 2 / logits.std(0).mean()
        last.weight *= factor
        last.bias -= logits.mean(0) * factor


def make_run(folder, network="cnnc", classes=2, scale="rank", seed=0):
    """A run folder of a network that never learned anything, but has opinions."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    classifier = PairClassifier(network, Rendering(), BINS, classes, mirror=classes == 2).eval()
    give_opinions(classifier, classes)
    facts = facts_of(classifier, network, scale=scale, natural=NATURAL, shown=0.25)
    save_weights(folder / "model.safetensors", classifier.state_dict(), facts)
    store = {"path": "images.zarr", "plan_hash": "", "n_pairs": 1, "n_cells": 1, "bins": BINS, "scale": scale}
    write_config(folder / "config.toml", Recipe(), store, 0)
    metrics = {"store": store, "operating_points": POINTS}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A matrix of 200 cells and 24 genes, its 276 labelled pairs, their images; and run, a network."""
    folder = tmp_path_factory.mktemp("predict")
    expression, module = module_expression(200, 6, 4, seed=3)
    pairs = module_pairs(folder / "pairs.csv", module)
    make_store(folder, expression, PairSource(pairs=pairs), Binning("rank", BINS))
    make_run(folder / "run")
    return folder


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(predict, "PART_PAIRS", PART)


def score(folder, out, run=None, compute=HERE, pairs="pairs.csv", **options):
    """Scores of the fixture's pairs."""
    options.setdefault("source", PairSource(pairs=folder / pairs))
    return pairscape.predict(
        run or folder / "run", folder / "expression.zarr", out, compute=compute, codes=folder / "codes.zarr",
        **{"quiet": True, **options},
    ).attrs  # fmt: skip


def of_store(folder, out, **options):
    return pairscape.predict(
        folder / "run", out, images=folder / "images.zarr", compute=HERE, **{"quiet": True, **options}
    ).attrs


def frame(path):
    return read_scores(path).to_pandas()


@pytest.fixture(scope="module")
def fused(folder, tmp_path_factory):
    """The scores of this process."""
    out = tmp_path_factory.mktemp("fused") / "s.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "PART_PAIRS", PART)
        score(folder, out)
    return out


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_scores_are_those_of_stored_images_at_the_prior(folder, tmp_path):
    score(folder, tmp_path / "s.parquet", prediction=Prediction(prior=0.1))
    images = open_images(folder / "images.zarr")
    classifier = TrainedNetwork.load(folder / "run").classifier
    pairs, rows = images.pairs(), np.arange(images.spec.n_pairs)
    ready = prepare(classifier.eval(), torch.device("cpu"))  # as `evaluate` scores
    raw = score_rows(classifier, images, rows, lambda _: None, probabilities=ready)
    odds = raw * [0.9 / 0.75, 0.1 / 0.25]
    found, names = frame(tmp_path / "s.parquet"), images.array("gene")
    assert found["gene_a"].tolist() == names[pairs.gene_a].tolist()
    assert found["gene_b"].tolist() == names[pairs.gene_b].tolist()
    assert found["label"].tolist() == pairs.label.tolist()
    np.testing.assert_allclose(found["score"], odds[:, 1] / odds.sum(axis=1), atol=1e-5)
    assert found["score"].std() > 0.01
    np.testing.assert_array_equal(found["correlation"], spearman(images.counts(slice(None))).astype(np.float32)[rows])


def test_the_file_says_what_made_it(folder, fused):
    facts = read_facts(fused)
    assert pq.read_schema(fused).names == list(ALWAYS)
    assert facts["prior"] == NATURAL
    assert facts["thresholds"] == {"balanced accuracy": 0.03}
    assert facts["model"]["run"] == str(folder / "run")
    assert facts["model"]["network"] == "cnnc"
    assert len(facts["model"]["weights"]) == 64
    assert facts["pairs"]["n_pairs"] == 276
    assert facts["codes"]["path"] == str(folder / "codes.zarr")
    assert (facts["matrix"]["path"], facts["matrix"]["n_cells"]) == (str(folder / "expression.zarr"), 200)
    assert (facts["seed"], "screen" in facts) == (0, False)
    assert {"pairscape", "torch"} <= set(facts["versions"])
    assert {path.name for path in fused.parent.iterdir()} == {"s.parquet", "s.html"}


def test_a_network_of_directions_says_which_way(folder, tmp_path):
    run = make_run(tmp_path / "run", classes=3)
    score(folder, tmp_path / "s.parquet", run=run)
    found = frame(tmp_path / "s.parquet")
    assert list(found)[3:5] == ["score", "forward"]
    assert found["forward"].between(0, 1).all()
    assert found["forward"].std() > 0.01


@pytest.mark.parametrize("compute", [
    pytest.param(Compute("threads", 2), id="threads"),
    pytest.param(Compute("local", 1), id="one-worker", marks=pytest.mark.cluster),
    pytest.param(Compute("local", 2), id="two-workers", marks=pytest.mark.cluster),
])  # fmt: skip
def test_any_scheduler_writes_the_same_bytes(compute, folder, fused, tmp_path):
    score(folder, tmp_path / "s.parquet", compute=compute)
    assert (tmp_path / "s.parquet").read_bytes() == fused.read_bytes()


def test_cells_that_do_not_fit_are_counted_slab_by_slab(folder, fused, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "portion", lambda *_, **__: Portion(cells=64, shards=1, cache_bytes=0, task_bytes=1))
    score(folder, tmp_path / "s.parquet")
    assert (tmp_path / "s.parquet").read_bytes() == fused.read_bytes()


def test_an_image_store_is_scored_as_its_matrix_is(folder, fused, tmp_path):
    facts = of_store(folder, tmp_path / "s.parquet")
    pd.testing.assert_frame_equal(frame(tmp_path / "s.parquet"), frame(fused))
    assert facts["images"]["path"] == str(folder / "images.zarr")
    assert facts["codes"] == read_facts(fused)["codes"]


def test_a_matrix_in_memory_is_written_beside_the_scores(folder, fused, tmp_path):
    in_memory = ad.read_zarr(folder / "expression.zarr")
    pairscape.predict(
        folder / "run", in_memory, tmp_path / "s.parquet", source=PairSource(pairs=folder / "pairs.csv"),
        compute=HERE, quiet=True,
    )  # fmt: skip
    pd.testing.assert_frame_equal(frame(tmp_path / "s.parquet"), frame(fused))
    made = {"s.codes.zarr", "s.expression.zarr", "s.html", "s.parquet"}
    assert {path.name for path in tmp_path.iterdir()} == made


@pytest.mark.parametrize("network", ["deepdrim", "pairnet-factors"])
def test_a_network_that_knows_more_of_the_genes_finds_it(folder, tmp_path, network):
    run = make_run(tmp_path / "run", network=network)
    score(folder, tmp_path / "s.parquet", run=run)
    found = frame(tmp_path / "s.parquet")
    images, classifier = open_images(folder / "images.zarr"), TrainedNetwork.load(run).classifier
    rows = np.arange(images.spec.n_pairs)
    ready = prepare(classifier.eval(), torch.device("cpu"))  # as `evaluate` scores
    raw = score_rows(classifier, images, rows, lambda _: None, probabilities=ready)
    odds = raw * [(1 - NATURAL) / 0.75, NATURAL / 0.25]
    np.testing.assert_allclose(found["score"], odds[:, 1] / odds.sum(axis=1), atol=1e-5)
    assert found["score"].std() > 0.01
    pairscape.predict(run, tmp_path / "i.parquet", images=folder / "images.zarr", compute=HERE, quiet=True)
    pd.testing.assert_frame_equal(frame(tmp_path / "i.parquet"), found)


@pytest.mark.parametrize("asked", [{"q_values": True}, {"bootstrap": 8}], ids=str)
def test_doubts_of_a_network_that_knows_loadings_are_refused(folder, tmp_path, refuses, asked):
    run = make_run(tmp_path / "run", network="pairnet-factors")
    with refuses("pairnet-factors", "keep those of the real pair", "--q-values and --bootstrap"):
        score(folder, tmp_path / "s.parquet", run=run, prediction=Prediction(**asked))
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_network_of_no_finite_weights_is_refused(folder, tmp_path, refuses):
    run = make_run(tmp_path / "run")
    network = TrainedNetwork.load(run)
    state = {name: tensor * float("nan") for name, tensor in network.classifier.state_dict().items()}
    save_weights(run / "model.safetensors", state, network.facts)
    with refuses("model.safetensors", "holds values that are no finite numbers", "train again"):
        score(folder, tmp_path / "s.parquet", run=run)


# ── the screen ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_screen_keeps_the_most_dependent_pairs_and_changes_no_score(folder, fused, tmp_path):
    facts = score(folder, tmp_path / "s.parquet", prediction=Prediction(screen=0.25))
    whole, found = frame(fused), frame(tmp_path / "s.parquet")
    kept = found["score"].notna()
    assert kept.sum() == 69  # a quarter of 276, all of which are the sample
    assert found["dependence"][kept].min() > found["dependence"][~kept].max()
    np.testing.assert_allclose(found["score"][kept], whole["score"][kept], atol=1e-6)
    for name in ("dependence", "correlation"):
        np.testing.assert_array_equal(found[name], whole[name])
    screen = facts["screen"]
    assert screen["threshold"] == found["dependence"][kept].min()
    assert (screen["sample"], screen["kept"]) == (276, 0.25)
    best = np.argsort(-whole["score"].to_numpy(), kind="stable")[:50]
    assert screen["recall"]["50"] == pytest.approx(kept.to_numpy()[best].mean(), abs=0.021)


def test_a_screen_that_keeps_all_is_none(folder, fused, tmp_path):
    facts = score(folder, tmp_path / "s.parquet", prediction=Prediction(screen=1.0))
    assert "screen" not in facts
    pd.testing.assert_frame_equal(frame(tmp_path / "s.parquet"), frame(fused))


def test_the_threshold_of_a_sample():
    values = np.array([3, 1, 2, 5, 4, 2], np.float32)
    assert place_threshold(values, 0.5) == 3
    assert place_threshold(values, 1 / 6) == 5
    assert place_threshold(values, 1e-9) == 5
    assert place_threshold(values, 1.0) == 1
    facts = screen_facts(0.5, 3.0, np.repeat(values, 2), np.repeat(values, 2))
    assert facts["recall"] == {"10": 0.6}
    assert facts["kept"] == 0.5


def test_a_sample_is_random_ascending_and_repeats_itself():
    rows = sample_rows(10**6, 0)
    assert rows.size == np.unique(rows).size == 4096
    assert (np.diff(rows) > 0).all()
    assert rows.mean() == pytest.approx(5e5, rel=0.05)
    np.testing.assert_array_equal(rows, sample_rows(10**6, 0))
    assert (rows != sample_rows(10**6, 1)).any()
    np.testing.assert_array_equal(sample_rows(5, 0), np.arange(5))


def cells_of(x, y, bins=12):
    """(1, bins, bins) joint counts of values in 0 to 1."""
    return np.histogram2d(x, y, bins=bins, range=[[0, 1], [0, 1]])[0].T[None].astype(np.uint32)


def test_spearman_of_binned_cells_is_scipys():
    rng = np.random.default_rng(0)
    x = rng.random(400)
    for y in (x, 1 - x, np.clip(x + 0.3 * rng.normal(size=400), 0, 1), rng.random(400)):
        expected = stats.spearmanr(np.minimum(x * 12, 11).astype(int), np.minimum(y * 12, 11).astype(int)).statistic
        assert spearman(cells_of(x, y))[0] == pytest.approx(expected, abs=1e-9)
    assert spearman(cells_of(x, np.zeros(400)))[0] == 0


def test_dependence_is_in_standard_deviations_and_sees_what_falls_again():
    rng = np.random.default_rng(0)
    alone = np.concatenate([cells_of(*rng.random((2, 500))) for _ in range(400)])
    independent = dependence(alone, spearman(alone))
    assert 0.5 < independent.mean() < 2
    assert np.quantile(independent, 0.99) < 4.5
    x = rng.random(500)
    bent = cells_of(x, 4 * (x - 0.5) ** 2)
    assert abs(spearman(bent)[0]) < 0.1
    assert dependence(bent, spearman(bent))[0] > 10
    assert dependence(cells_of(x, np.zeros(500)), np.zeros(1))[0] == 0


# ── interrupted ──────────────────────────────────────────────────────────────────────────────────────────────────────

KILLED = """
import os, signal
from pathlib import Path
import pairscape
from pairscape.pipeline.compute import session
from pairscape.model.prediction import predict
from pairscape.pipeline.storage import receipts
from pairscape.pipeline.options import Compute, PairSource
predict.PART_PAIRS = {part}
write, left = receipts.write_file, [{writes}]
def write_until(path, content):
    if not left[0]:
        path.with_name(f".{{path.name}}.{{os.getpid()}}").write_bytes(content[:9])
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    write(path, content)
receipts.write_file = write_until
folder, out = Path("{folder}"), Path("{out}")
pairs, here = PairSource(pairs=folder / "pairs.csv"), Compute("synchronous")
codes = folder / "codes.zarr"
pairscape.predict(folder / "run", folder / "expression.zarr", out, source=pairs, codes=codes, compute=here, quiet=True)
"""


def test_a_killed_job_goes_on_and_ends_with_the_same_bytes(folder, fused, tmp_path, monkeypatch, capsys):
    """Killed twice, before a part and before a receipt."""
    out = tmp_path / "s.parquet"
    for writes in (4, 5):  # a part and its receipt are two: after two parts; then, after two more, one without receipt
        code = KILLED.format(part=PART, writes=writes, folder=folder, out=out)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=Path(__file__).parents[3])
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not out.exists()
    folder_of_parts = tmp_path / ".s.parquet.wip" / "parts"
    receipts = [path.stem for path in (tmp_path / ".s.parquet.wip" / "receipts").iterdir() if path.suffix == ".json"]
    before = {name: (folder_of_parts / f"{name}.bin").stat() for name in receipts if not name.startswith(".")}
    assert len(before) == 4
    after, join = {}, predict.write_scores

    def look(*arguments):
        after.update({name: (folder_of_parts / f"{name}.bin").stat() for name in before})
        join(*arguments)

    monkeypatch.setattr(predict, "write_scores", look)
    score(folder, out, quiet=False)
    assert out.read_bytes() == fused.read_bytes()
    assert {name: (s.st_ino, s.st_mtime_ns) for name, s in after.items()} == {
        name: (s.st_ino, s.st_mtime_ns) for name, s in before.items()
    }
    assert "5 parts computed, 4 kept from an earlier run" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"s.parquet", "s.html"}


def stopped(folder, out, monkeypatch, **options):
    """A job that stops before its parts are joined."""

    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(predict, "write_scores", full)
        with pytest.raises(JobError, match="no space left"):
            score(folder, out, **options)


def test_what_is_finished_is_not_computed_again(folder, fused, tmp_path, monkeypatch, capsys):
    stopped(folder, tmp_path / "s.parquet", monkeypatch)
    score(folder, tmp_path / "s.parquet", quiet=False)
    assert "0 parts computed, 9 kept from an earlier run" in capsys.readouterr().out
    assert (tmp_path / "s.parquet").read_bytes() == fused.read_bytes()


def test_a_part_that_is_damaged_is_computed_again(folder, fused, tmp_path, monkeypatch, capsys):
    stopped(folder, tmp_path / "s.parquet", monkeypatch)
    part = tmp_path / ".s.parquet.wip" / "parts" / "3.bin"
    part.write_bytes(part.read_bytes()[:40])
    score(folder, tmp_path / "s.parquet", quiet=False)
    assert "1 parts computed, 8 kept" in capsys.readouterr().out
    assert (tmp_path / "s.parquet").read_bytes() == fused.read_bytes()


def test_a_part_that_lost_whole_rows_is_not_read_as_fewer(tmp_path):
    made, columns = parts.Parts(str(tmp_path), 100, 64), np.zeros(64, parts.COLUMNS)
    made.write(0, columns)
    np.testing.assert_array_equal(made.read([0]), columns)
    file = tmp_path / "parts" / "0.bin"
    file.write_bytes(file.read_bytes()[: 60 * parts.COLUMNS.itemsize])
    with pytest.raises(JobError, match="cannot be read"):
        made.read([0])


def test_another_job_for_the_same_file_begins_anew(folder, fused, tmp_path, monkeypatch, capsys):
    stopped(folder, tmp_path / "s.parquet", monkeypatch, prediction=Prediction(prior=0.3))
    score(folder, tmp_path / "s.parquet", quiet=False)
    assert "9 parts computed, " in (said := capsys.readouterr().out)
    assert "kept" not in said
    assert (tmp_path / "s.parquet").read_bytes() == fused.read_bytes()


def test_a_network_that_changes_under_way_is_noticed(folder, tmp_path):
    before = TrainedNetwork.load(folder / "run").sha256
    run = make_run(tmp_path / "run", seed=1)
    job = parts.Job(parts.Parts(str(tmp_path), 1), str(run), before, 0.1, "cpu", None, None, None, 1, None, False)
    parts._held.clear()
    with pytest.raises(JobError, match="holds another network than when this job began"):
        parts.held_scorer(job)


def test_each_file_of_a_run_is_read_once_at_most(folder, tmp_path):
    run = make_run(tmp_path / "run")
    network, sample = TrainedNetwork.load(run), open_images(folder / "images.zarr")
    pairs = PairSample.of_rows(sample, np.arange(sample.spec.n_pairs), network.classifier)
    save_reference(run, make_reference(network, pairs, None, 0), network.sha256)
    opened, watched = [], [True]  # a hook cannot be taken back
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if watched and event == "open" else None)
    score(folder, tmp_path / "s.parquet", run=run, prediction=DOUBTFUL)
    watched.clear()
    names = ("model.safetensors", "reference.safetensors", "metrics.json", "config.toml")
    counts = {name: sum(path == str(run / name) for path in opened) for name in names}
    assert counts == {"model.safetensors": 1, "reference.safetensors": 1, "metrics.json": 1, "config.toml": 1}


def test_an_earlier_file_stays_until_the_new_one_is_complete(folder, fused, tmp_path, monkeypatch):
    out = tmp_path / "s.parquet"
    score(folder, out, prediction=Prediction(prior=0.3))
    before = out.read_bytes()
    stopped(folder, out, monkeypatch, overwrite=True)
    assert out.read_bytes() == before
    score(folder, out, overwrite=True)
    assert out.read_bytes() == fused.read_bytes()


def test_progress_counts_pairs(folder, tmp_path, monkeypatch, stages):
    monkeypatch.setattr("pairscape.pipeline.compute.session.Silent", lambda: stages)
    score(folder, tmp_path / "s.parquet")
    assert stages.seen["sampling pairs"] == [276, 276]
    assert stages.seen["scoring pairs"] == [276, 276]


# ── how far to believe it ────────────────────────────────────────────────────────────────────────────────────────────

DOUBTFUL = Prediction(screen=0.5, q_values=True, bootstrap=8, best=20)
TOLD = ("q_value", "score_mean", "score_sd", "rank_stability")


@pytest.fixture(scope="module")
def doubtful(folder, tmp_path_factory):
    """Scores with q-values and resamples, made in this process."""
    out = tmp_path_factory.mktemp("doubtful") / "s.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "PART_PAIRS", PART)
        score(folder, out, prediction=DOUBTFUL)
    return out


def test_q_values_and_resamples_stand_beside_the_same_scores(folder, doubtful, tmp_path):
    score(folder, tmp_path / "s.parquet", prediction=Prediction(screen=0.5))
    found, facts = frame(doubtful), read_facts(doubtful)
    pd.testing.assert_frame_equal(found.drop(columns=[*TOLD]), frame(tmp_path / "s.parquet"))
    scored = found["score"].notna()
    assert found["q_value"].notna().equals(scored)
    by_score = found[scored].sort_values("score", ascending=False)
    assert by_score["q_value"].is_monotonic_increasing
    assert (found["q_value"] <= 0.05).sum() == facts["fdr"]["calls"]["0.05"]
    resampled = found["score_mean"].notna()
    assert set(found.index[resampled]) == set(by_score.index[:40])  # the list of 20, and as many runners-up
    assert found["rank_stability"][resampled].sum() == pytest.approx(20, abs=1e-4)
    assert (facts["stability"]["resamples"], facts["stability"]["list"]) == (8, 20)


def test_decoys_are_screened_as_candidates_are(doubtful):
    facts, found = read_facts(doubtful), frame(doubtful)
    assert facts["fdr"]["decoys"] == len(found)  # fewer candidates than decoys: one each
    assert len(found) / 4 < facts["fdr"]["decoys_screened_out"] < len(found)


@pytest.mark.cluster
def test_doubt_has_the_same_bytes_on_workers(folder, doubtful, tmp_path):
    score(folder, tmp_path / "s.parquet", prediction=DOUBTFUL, compute=Compute("local", 2))
    assert (tmp_path / "s.parquet").read_bytes() == doubtful.read_bytes()


def test_doubt_of_an_image_store_is_counted_from_its_codes(folder, doubtful, tmp_path):
    of_store(folder, tmp_path / "s.parquet", prediction=DOUBTFUL)
    pd.testing.assert_frame_equal(frame(tmp_path / "s.parquet"), frame(doubtful))


def test_doubt_takes_memory_that_is_planned(folder, tmp_path, monkeypatch):
    planned, real = [], predict.portion
    monkeypatch.setattr(predict, "portion", lambda *asked, **more: planned.append(asked[-1]) or real(*asked, **more))
    score(folder, tmp_path / "s.parquet")
    score(folder, tmp_path / "t.parquet", prediction=Prediction(bootstrap=8))
    plain, doubted = planned[:2], planned[2:]
    needed = confidence_bytes(Prediction(bootstrap=8), 200, BINS)
    assert needed > 10e6
    assert doubted == [beside + needed for beside in plain]


# ── refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────

RUN, MATRIX, OUT, PAIRS = "run", "expression.zarr", "{out}/s.parquet", ["--pairs", "pairs.csv"]
BAD = {
    "no run": (["nothing", MATRIX, OUT, *PAIRS], ["nothing/model.safetensors", "no trained weights"]),
    "repeats": (["repeats", MATRIX, OUT, *PAIRS], ["holds 2 repeats", "give one of them"]),
    "damaged metrics": (["garbled", MATRIX, OUT, *PAIRS], ["metrics.json", "damaged"]),
    "another suffix": ([RUN, MATRIX, "{out}/s.csv", *PAIRS], ["s.csv", "does not end in .parquet"]),
    "it exists": ([RUN, MATRIX, "there.parquet", *PAIRS], ["there.parquet exists", "--overwrite"]),
    "its report exists": ([RUN, MATRIX, "page.parquet", *PAIRS], ["page.html exists", "--overwrite"]),
    "no scores": ([RUN, MATRIX, "there.parquet", "--overwrite", *PAIRS], ["there.parquet holds no scores"]),
    "a URL": ([RUN, MATRIX, "s3://bucket/s.parquet", *PAIRS], ["s3://bucket/s.parquet", "URL"]),
    "no matrix": ([RUN, "nothing.zarr", OUT, *PAIRS], ["nothing.zarr", "does not exist"]),
    "not a matrix": ([RUN, "pairs.csv", OUT, *PAIRS], ["pairs.csv"]),
    "other genes": ([RUN, MATRIX, OUT, "--pairs", "others.csv"], ["others.csv", "0 of the 3 genes"]),
    "half a source of pairs": ([RUN, MATRIX, OUT, "--targets", "pairs.csv"], ["0 sources of pairs given"]),
    "no file of pairs": ([RUN, MATRIX, OUT, "--pairs", "nothing.csv"], ["nothing.csv"]),
    "prior 0": ([RUN, MATRIX, OUT, *PAIRS, "--prior", "0"], ["prior is 0", "between 0 and 1"]),
    "prior 1": ([RUN, MATRIX, OUT, *PAIRS, "--prior", "1"], ["prior is 1"]),
    "prior 2": ([RUN, MATRIX, OUT, *PAIRS, "--prior", "2"], ["prior is 2"]),
    "screen 0": ([RUN, MATRIX, OUT, *PAIRS, "--screen", "0"], ["screen is 0", "above 0"]),
    "screen 1.5": ([RUN, MATRIX, OUT, *PAIRS, "--screen", "1.5"], ["screen is 1.5"]),
    "bootstrap 1": ([RUN, MATRIX, OUT, *PAIRS, "--bootstrap", "1"], ["bootstrap is 1", "fewer than two"]),
    "best 0": ([RUN, MATRIX, OUT, *PAIRS, "--bootstrap", "9", "--best", "0"], ["best is 0", "empty list"]),
    "images without codes": (
        [RUN, OUT, "--images", "alone/images.zarr", "--q-values"], ["alone/images.zarr", "decoys", "--q-values"],
    ),
    "no such device": ([RUN, MATRIX, OUT, *PAIRS, "--device", "tpu"], ["device 'tpu' is not available"]),
    "one path": ([RUN], ["predict takes three paths", "1 are given"]),
    "two paths": ([RUN, MATRIX, *PAIRS], ["predict takes three paths", "2 are given"]),
    "four paths": ([RUN, MATRIX, OUT, "x", *PAIRS], ["4 are given"]),
    "images and matrix": ([RUN, MATRIX, OUT, "--images", "images.zarr"], ["with --images predict takes two paths"]),
    "images and pairs": ([RUN, OUT, "--images", "images.zarr", *PAIRS], ["brings its own pairs"]),
    "no images": ([RUN, OUT, "--images", "nothing.zarr"], ["nothing.zarr", "no such image store"]),
    "other bins": (["run", OUT, "--images", "finer.zarr"], ["24 bins", "trained on 16"]),
    "another scale": (["max", OUT, "--images", "images.zarr"], ["scale rank", "trained on 16 of scale max"]),
    "little memory": ([RUN, MATRIX, OUT, *PAIRS, "--memory-limit", "0.6GB"], ["0.6 GB", "--memory-limit"]),
    "little memory for images": (
        [RUN, OUT, "--images", "images.zarr", "--memory-limit", "0.6GB"], ["scoring images", "0.6 GB"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def bad(folder, tmp_path_factory):
    """The fixture, and beside it what no prediction can be made of."""
    place = tmp_path_factory.mktemp("bad")
    for name in ("run", "expression.zarr", "images.zarr", "codes.zarr", "pairs.csv"):
        (place / name).symlink_to(folder / name)
    for name in ("repeats/seed-0", "repeats/seed-1", "garbled"):
        shutil.copytree(folder / "run", place / name)
    (place / "garbled" / "metrics.json").write_text("{")
    make_run(place / "max", scale="max")
    shutil.copytree(folder / "images.zarr", place / "alone" / "images.zarr")
    _forget_codes(place / "alone" / "images.zarr" / "zarr.json")
    write_pairs(place / "others.csv", ["A1BG", "A2M"], ["A2M", "NAT1"])
    pd.DataFrame({"x": [1]}).to_parquet(place / "there.parquet")
    (place / "page.html").write_text("mine")
    expression, _ = module_expression(60, 2, 2, seed=0)
    make_store(place / "other", expression, PairSource(all_pairs=True), Binning("rank", 24))
    (place / "other" / "images.zarr").rename(place / "finer.zarr")
    return place


def _forget_codes(metadata):
    """A store whose codes are gone."""
    known = json.loads(metadata.read_text())
    known["attributes"]["spec"]["codes"] = "gone/codes.zarr"
    metadata.write_text(json.dumps(known))


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(name, bad, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(bad)
    arguments, words = BAD[name]
    before = sorted(path.name for path in bad.iterdir())
    given = [argument.format(out=tmp_path) for argument in arguments]
    assert run_command("predict", *given, "--scheduler", "synchronous", "--quiet") == 2
    said = capfd.readouterr().err.strip().splitlines()
    said = [line for line in said if line.startswith("pairscape:")]
    assert len(said) == 1
    assert [word for word in words if word not in said[0]] == [], said
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in bad.iterdir()) == before


def test_a_bad_value_leaves_nothing_of_the_workplace(folder, tmp_path, capfd):
    matrix = ad.read_zarr(folder / "expression.zarr")
    matrix.X.data[3] = np.nan
    matrix.write_h5ad(tmp_path / "m.h5ad")
    pairs = folder / "pairs.csv"
    assert run_command("predict", folder / "run", tmp_path / "m.h5ad", tmp_path / "s.parquet", "--pairs", pairs,
                       "--scheduler", "synchronous", "--quiet") == 2  # fmt: skip
    assert "NaN" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5ad"]


# ── what a run says of itself ────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_says_its_share_of_edges_and_its_rule_of_binning(folder, tmp_path):
    trained = TrainedRun.open(make_run(tmp_path / "run", scale="max"))
    assert (trained.natural, trained.binning) == (NATURAL, Binning("max", BINS))


def test_a_threshold_moves_with_the_prior(folder):
    trained = TrainedRun.open(folder / "run")
    assert trained.thresholds(NATURAL) == {"balanced accuracy": 0.03}
    moved = trained.thresholds(0.5)["balanced accuracy"]
    assert moved / (1 - moved) == pytest.approx(0.03 / 0.97 / (NATURAL / (1 - NATURAL)))
    assert moved_probability(0.3, 0.0, 0.5) == 0.3
    assert moved_probability(0.3, 0.1, 0.1) == pytest.approx(0.3)


def test_another_network_or_prior_has_another_hash(folder, tmp_path):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=1)
    hashes = [TrainedNetwork.load(run).sha256 for run in (folder / "run", first, second)]
    assert hashes[0] == hashes[1] != hashes[2]
    network = TrainedNetwork.load(first)
    facts = replace(network.facts, natural=0.4)
    save_weights(first / "model.safetensors", network.classifier.state_dict(), facts)
    assert TrainedNetwork.load(first).sha256 != hashes[0]
