"""Evaluation as a whole: what stands in metrics.json for two classes and three, and for every balance and loss."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from model_fixtures import curved_store, make_store, module_expression, write_pairs
from pairscape.model.batches.store_folds import make_folds
from pairscape.model.evaluation import evaluate as evaluate_module
from pairscape.model.evaluation.evaluate import evaluate
from pairscape.model.evaluation.metrics import all_scores, auroc, calibration_scores
from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.prior import PriorCorrection
from pairscape.model.options import Recipe, Rendering, Splitting, Training
from pairscape.model.reports.run_report import write_report
from pairscape.model.training.run import train_run
from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.options import PairSource


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def pointed(root):
    """Pairs of 30 genes as CNNC lists them: (a, b) 1, its mirror (b, a) 2, and others 0."""
    folder = root / "pointed"
    expression, module = module_expression(80, 3, 10, seed=4)
    names = np.array([f"GENE{i:03d}" for i in range(module.size)])
    a, b = np.triu_indices(module.size, 1)
    edge = module[a] == module[b]
    label = np.concatenate([edge.astype(int), np.full(edge.sum(), 2)])
    folder.mkdir()
    gene_a, gene_b = np.append(names[a], names[b[edge]]), np.append(names[b], names[a[edge]])
    return make_store(folder, expression, PairSource(pairs=write_pairs(folder / "pairs.csv", gene_a, gene_b, label)))


def evaluated(images, shown, predicted, monkeypatch):
    """The evaluation of a network that answers `predicted(rows)`."""
    folds = make_folds(images, Recipe(splitting=Splitting("pair")), 0)
    network = PairClassifier("cnnc", Rendering(), images.spec.binning.bins, folds.classes, mirror=False)
    monkeypatch.setattr(evaluate_module, "score_rows", lambda c, i, rows, *_: predicted(rows).astype(np.float32))
    return folds, evaluate(network, images, folds, PriorCorrection(shown), 0, Silent())


def informed(images, classes, seed=0):
    """Row numbers → probabilities that know something of the label."""
    label = images.pairs().label
    logits = np.random.default_rng(seed).normal(size=(label.size, classes)) * 1.2
    logits[np.arange(label.size), np.maximum(label, 0)] += 2
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return lambda rows: probability[rows]


def test_two_classes_end_to_end(root, monkeypatch):
    images = curved_store(root)
    folds, found = evaluated(images, 0.5, informed(images, 2), monkeypatch)
    metrics, table = found.metrics, found.predictions
    label = folds.pairs.label[folds.test]
    assert json.loads(json.dumps(metrics)) == metrics  # all of it is plain
    natural = float((folds.pairs.label[folds.train] > 0).mean())
    assert (metrics["calibration"]["shown"], metrics["calibration"]["natural"]) == (0.5, natural)
    corrected = metrics["calibration"]["prior_corrected"]
    assert corrected["ece"] < metrics["calibration"]["as_trained"]["ece"]
    assert {name: metrics["test"][name] for name in ("brier", "ece")} == {n: corrected[n] for n in ("brier", "ece")}
    compared = metrics["against_baseline"]
    assert compared["auroc"]["network"] == metrics["test"]["auroc"]
    rivals = {name: metrics["audit"][name]["auroc"] for name in evaluate_module.EXPRESSION}
    rivals = {name: auroc for name, auroc in rivals.items() if auroc is not None}  # no counts were ingested
    assert compared["auroc"]["baseline"] == max(rivals, key=rivals.get)
    assert compared["auroc"]["value"] == max(rivals.values())
    assert "direction" not in metrics
    assert "labels_only_regulator" not in metrics["audit"]
    assert [point["aim"] for point in metrics["operating_points"]] == [
        "balanced accuracy",
        "precision 0.5",
        "precision 0.9",
    ]
    assert metrics["operating_points"][0]["threshold"] == metrics["threshold"] == found.threshold
    assert metrics["test"] == all_scores(label, _as_scored(folds, images, natural), found.threshold)
    assert len(table) == label.size


def _as_scored(folds, images, natural):
    raw = informed(images, 2)(folds.test).astype(np.float32)
    return PriorCorrection(0.5).corrected(raw, natural)[:, 1]


def test_three_classes_end_to_end(pointed, monkeypatch):
    folds, found = evaluated(pointed, 0.5, informed(pointed, 3), monkeypatch)
    metrics, label = found.metrics, folds.pairs.label[folds.test]
    assert folds.classes == 3
    direction = metrics["direction"]
    assert np.sum(direction["confusion"]) == metrics["n_test"]
    assert np.sum(direction["confusion"], axis=1).tolist() == np.bincount(label, minlength=3).tolist()
    assert direction["n_edges"] == (label > 0).sum()
    assert direction["accuracy"] > 0.7
    assert set(direction["audit"]) == {"labels_only", "marginals_only"}
    assert {"labels_only", "labels_only_regulator", "labels_only_target"} <= metrics["audit"].keys()
    assert "forward" in found.predictions
    # any edge against none: the 3 × 3 table folded up is the 2 × 2 one
    folded = np.array(direction["confusion"])
    assert [[folded[0, 0], folded[0, 1:].sum()], [folded[1:, 0].sum(), folded[1:, 1:].sum()]] == metrics["confusion"]
    score = found.predictions["score"].to_numpy()
    assert metrics["test"]["auroc"] == pytest.approx(auroc(label, score), abs=1e-4)


@pytest.fixture(scope="module")
def pointed_run(pointed, root):
    recipe = Recipe(splitting=Splitting("pair"), training=Training(epochs=1, batch_size=64))
    train_run(pointed, root / "pointed-run", recipe, 0, Session())
    return root / "pointed-run"


def test_three_classes_are_trained_evaluated_and_reported(pointed_run):
    """The class a network is surest of, among edges, is the direction that its row of `forward` says."""
    metrics = json.loads((pointed_run / "metrics.json").read_text())
    table = pd.read_parquet(pointed_run / "predictions.parquet")
    assert 'id="direction"' in (pointed_run / "report.html").read_text(encoding="utf-8")
    called = np.where(table["score"] >= metrics["threshold"], np.where(table["forward"] >= 0.5, 1, 2), 0)
    again = confusion_matrix(table["label"], called, labels=[0, 1, 2])
    assert abs(again - metrics["direction"]["confusion"]).sum() <= 4  # scores are stored in 32 bits


def test_a_network_that_blew_up_is_reported_as_collapsed(pointed, monkeypatch):
    _, found = evaluated(pointed, 0.5, lambda rows: np.full((rows.size, 3), np.nan), monkeypatch)
    assert found.metrics["collapsed"]
    assert found.metrics["direction"]["accuracy"] == 0.5
    assert found.metrics["against_baseline"]["auroc"]["standing"] != "ahead"
    assert json.loads(json.dumps(found.metrics)) == found.metrics


@pytest.mark.parametrize(
    "training",
    [
        Training(balance="natural"),
        Training(ratio=4.0, loss="weighted"),
        Training(ratio=4.0, loss="weighted", class_weights=(1.0, 2.0)),
        Training(ratio=4.0, loss="focal"),
    ],
    ids=["natural", "weighted", "given weights", "focal"],
)
def test_trained_probabilities_keep_the_prevalence_under_every_balance_and_loss(root, training, tmp_path):
    """Their mean is the prevalence, which is what "calibrated in the large" means; uncorrected ones are far off."""
    images = curved_store(root)
    recipe = Recipe(splitting=Splitting("pair"), training=replace(training, epochs=8, patience=8, batch_size=96))
    metrics = train_run(images, tmp_path / "run", recipe, 0, Session())
    table = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert 1 / 2 < table["score"].mean() / metrics["prevalence"] < 2  # of 48 positives
    calibration = metrics["calibration"]
    assert calibration["prior_corrected"]["brier_skill"] > 0
    assert calibration["prior_corrected"]["log_loss"] <= calibration["as_trained"]["log_loss"] + 1e-9
    assert calibration_scores(table["label"], table["score"])["ece"] == pytest.approx(metrics["test"]["ece"], abs=1e-4)


def test_a_report_is_rebuilt_from_the_folder_alone(pointed_run, tmp_path):
    copy = shutil.copytree(pointed_run, tmp_path / pointed_run.name)
    (copy / "report.html").unlink()
    assert write_report(copy).read_bytes() == (pointed_run / "report.html").read_bytes()
