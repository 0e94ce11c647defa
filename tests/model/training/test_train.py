"""Training learns what is planted, repeats itself, leaves a whole run folder, and says so when it collapses."""

import csv
import json
import math
import re
import shutil
import tomllib
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

import pairscape
from model_fixtures import curved_expression, curved_store, gene_names, make_store, small_store, write_pairs
from pairscape.model.batches.folds import Folds, mirror_groups
from pairscape.model.batches.store_folds import is_directed, make_folds
from pairscape.model.networks.classifier import PairClassifier, TrainedNetwork, score_rows
from pairscape.model.networks.device import choose_device, choose_precision
from pairscape.model.networks.weights import load_weights
from pairscape.model.options import Recipe, Rendering, Splitting, Training, preset
from pairscape.model.reports.terminal import print_closing
from pairscape.model.training import optimize
from pairscape.model.training import train as train_module
from pairscape.model.training.run import evaluate_run, train_run
from pairscape.model.training.train import HISTORY, fit
from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Binning, PairSource
from reference import prior_corrected

QUICK = Training(epochs=10, patience=10, batch_size=96)
FILES = {
    "receipt.json",
    "config.toml",
    "metrics.json",
    "history.csv",
    "model-card.md",
    "predictions.parquet",
    "reference.safetensors",
    "model.safetensors",
    "report.html",
    "examples.npz",
}
AUDIT = [
    "labels_only", "marginals_only", "pearson", "spearman", "mutual_information", "distance_correlation", "hsic",
]  # fmt: skip
WITH_COUNTS = ["residual_correlation", "cscore_z"]  # of a store of values without counts, why they are not there


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def images(root):
    return curved_store(root)


@lru_cache
def trained_run(root):
    """A run on the curved store, as a user makes it; made once."""
    folder = root / "trained" / "run"
    pairscape.train(curved_store(root).path, folder, training=QUICK, quiet=True)
    return folder


@pytest.fixture(scope="module")
def run(root):
    return trained_run(root)


@pytest.fixture(scope="module")
def metrics(run):
    return json.loads((run / "metrics.json").read_text())


def history(run):
    with (run / "history.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def quick_fit(images, folder, seed=0, rendering=Rendering(), **settings):
    """Train without evaluation and report; the fitted classifier."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(rendering, training=Training(**{"epochs": 1, "batch_size": 128, **settings}))
    return fit(images, make_folds(images, recipe, seed), recipe, folder, seed, Silent())


# ---------------------------------------------------------------- learning


def test_a_network_learns_dependence_that_correlation_does_not_see(metrics, run):
    assert metrics["split"] == "both"
    assert metrics["test"]["balanced_accuracy"] > 0.8
    assert metrics["test"]["auroc"] > 0.9
    assert not metrics["collapsed"]
    # a test fold of 16 positives: an uninformative score strays by 0.07
    rivals = [metrics["audit"][name]["auroc"] for name in ("pearson", "spearman", "marginals_only")]
    assert metrics["test"]["auroc"] > max(rivals) + 0.2
    assert metrics["audit"]["labels_only"]["auroc"] == 0.5
    losses = [row["train_loss"] for row in history(run)]
    assert losses[-1] < 0.5 * losses[0]


def test_an_untrained_network_knows_nothing(images, tmp_path):
    recipe = Recipe(training=Training(epochs=1, batch_size=128, learning_rate=1e-12))
    metrics = train_run(images, tmp_path / "run", recipe, 0, Session())
    assert metrics["test"]["auroc"] < 0.75


def test_one_seed_gives_the_same_weights_and_figures_and_another_does_not(images, tmp_path):
    recipe, told = Recipe(training=Training(epochs=3, batch_size=128)), {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        told[name] = train_run(images, tmp_path / name, recipe, seed, Session())
        del told[name]["seconds"]
    assert told["first"] == told["again"]
    assert told["first"]["test"] != told["other"]["test"]
    first, again, other = (load_weights(tmp_path / name / "model.safetensors") for name in told)
    assert first[1] == again[1]
    assert all(torch.equal(first[0][key], again[0][key]) for key in first[0])
    assert not all(torch.equal(first[0][key], other[0][key]) for key in first[0])
    for file in ("predictions.parquet", "examples.npz", "config.toml"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file
    metrics = [(tmp_path / name / "metrics.json").read_text() for name in told]
    timeless = [re.sub(r'"seconds": {[^}]*}', "", text) for text in metrics]
    assert timeless[0] == timeless[1] != timeless[2]


OPTIONS = {
    "natural": {"balance": "natural"},
    "weighted": {"loss": "weighted", "balance": "natural"},
    "given weights": {"loss": "weighted", "class_weights": (1.0, 9.0)},
    "focal": {"loss": "focal", "gamma": 0.5},
    "bfloat16": {"precision": "bfloat16"},
    "adam": {"optimizer": "adam", "schedule": "constant"},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.01},
    "averaging": {"averaging": 0.9},
    "mirror": {"mirror": True},
    "one negative": {"ratio": 1.0},
    "more than there are": {"ratio": 1e6},
    "tiny batches": {"batch_size": 2, "balance": "down", "ratio": 5.0},
    "cnnc": {"network": "cnnc", "optimizer": "sgd", "learning_rate": 0.01},
    "log": {"rendering": Rendering("log", sigma=1.0)},
    "pooled residual": {"rendering": Rendering("residual", drop_both_zero=True)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_way_of_training_runs_and_gives_finite_scores(images, tmp_path, name):
    fitted = quick_fit(images, tmp_path, **OPTIONS[name])
    assert 0 < fitted.network.facts.shown < 1
    (row,) = history(tmp_path)
    assert all(math.isfinite(value) for value in row.values())
    with torch.inference_mode():
        counts = torch.from_numpy(images.counts(slice(0, 8)).astype(np.int32))
        probability = fitted.network.classifier.eval().probabilities(counts, torch.zeros(8, dtype=torch.int32))
    torch.testing.assert_close(probability.sum(1), torch.ones(8))


@pytest.mark.parametrize(
    ("options", "shown"), [({"ratio": 5.0}, 1 / 6), ({"ratio": 1.0}, 1 / 2), ({"balance": "natural"}, None)]
)
def test_the_prior_that_is_corrected_for_is_the_one_that_was_shown(images, tmp_path, options, shown):
    fitted = quick_fit(images, tmp_path, **options)
    label, train = images.array("label"), make_folds(images, Recipe(), 0).train
    assert fitted.network.facts.shown == pytest.approx((label[train] > 0).mean() if shown is None else shown)


def test_averaged_weights_are_the_ones_that_are_kept(images, tmp_path):
    plain, averaged = (quick_fit(images, tmp_path / str(a), averaging=a).network.classifier for a in (0.0, 0.5))
    assert not torch.equal(plain.network.stem.weight, averaged.network.stem.weight)
    assert not any("module" in key for key in load_weights(tmp_path / "0.5" / "model.safetensors")[0])


def test_three_classes_tell_the_direction(root, tmp_path):
    images = directed_store(root)
    recipe = Recipe(splitting=Splitting("pair"), training=Training(epochs=12, patience=12, batch_size=96))
    folds = make_folds(images, recipe, 0)
    assert folds.classes == 3
    assert folds.directed
    fitted = fit(images, folds, recipe, tmp_path, 0, Silent())
    label = images.array("label")
    assert fitted.network.classifier.mirror  # the transposed image of label 1 is label 2
    probability = score_rows(fitted.network.classifier, images, folds.test, lambda _: None)
    assert probability.shape == (folds.test.size, 3)
    positive = label[folds.test] > 0
    told = probability[positive, 1] > probability[positive, 2]
    assert (told == (label[folds.test][positive] == 1)).mean() > 0.8


@lru_cache
def directed_store(root):
    """CNNC's triples: (straight, curved, 1), (curved, straight, 2) and random pairs 0."""
    folder = root / "directed"
    folder.mkdir()
    expression, module, curved = curved_expression(300, 18, 3, seed=5)
    names, a, b = np.array(gene_names(module.size)), np.flatnonzero(~curved), np.flatnonzero(curved)
    a, b = np.repeat(a, b.size), np.tile(b, a.size)
    same = module[a] == module[b]
    other = np.flatnonzero(~same)[::7]
    gene_a, gene_b = np.concatenate([a[same], b[same], a[other]]), np.concatenate([b[same], a[same], b[other]])
    label = np.repeat([1, 2, 0], [same.sum(), same.sum(), other.size])
    pairs = write_pairs(folder / "pairs.csv", names[gene_a], names[gene_b], label)
    return make_store(folder, expression, PairSource(pairs=pairs), Binning("rank", 16))


# ---------------------------------------------------------------- the epoch that is kept


def told_scores(monkeypatch, average_precision, loss):
    """Let the validation fold say these, epoch by epoch."""
    said = iter([[x, 0.5, 0.5, y] for x, y in zip(loss, average_precision, strict=True)])
    monkeypatch.setattr(train_module, "_validate", lambda *_: next(said))


@pytest.mark.parametrize(
    ("average_precision", "loss", "kept", "epochs"),
    [
        ([0.5, 0.6, 0.7, 0.8], [4, 3, 2, 1], 3, 4),
        ([0.5, 0.7, 0.6, 0.65, 0.9], [5, 4, 3, 2, 1], 1, 4),  # patience 2: the fifth is never seen
        ([0.5, 0.7, 0.6, 0.8, 0.7, 0.7], [6, 5, 4, 3, 3, 3], 3, 6),
        ([1.0, 1 - 1e-16, 1.0, 1 + 1e-16], [0.7, 0.5, 0.3, 0.4], 2, 4),  # level but for rounding: the lower loss
        ([math.nan, 0.5, 0.6, 0.4], [math.nan, 3, 2, 4], 2, 4),
    ],
    ids=["rises", "stops", "recovers", "saturated", "starts undefined"],
)
def test_the_best_epoch_is_kept_and_patience_ends_the_rest(
    images, tmp_path, monkeypatch, average_precision, loss, kept, epochs
):
    told_scores(monkeypatch, average_precision, loss)
    quick_fit(images, tmp_path, epochs=len(loss), patience=2)
    assert load_weights(tmp_path / "model.safetensors")[1]["epoch"] == kept
    assert len(history(tmp_path)) == epochs


def test_the_learning_rate_warms_up_and_falls_to_nothing(run):
    rate = [row["learning_rate"] for row in history(run)]
    assert rate[0] < 0.1 * QUICK.learning_rate
    assert max(rate) > 0.9 * QUICK.learning_rate
    assert rate[-1] < 0.1 * QUICK.learning_rate
    assert [optimize.rate_at(x, "constant") for x in (0, 0.5, 1)] == [1, 1, 1]
    assert optimize.rate_at(0.1, "cosine") == pytest.approx(1)
    assert optimize.rate_at(1.0, "cosine") == pytest.approx(0)


# ---------------------------------------------------------------- the run folder


def test_a_run_folder_holds_what_the_design_says(run, metrics, images):
    assert {path.name for path in run.iterdir()} == FILES
    design = {"split", "prevalence", "n_test", "test", "audit", "collapsed", "seed", "versions", "store"}
    assert design <= metrics.keys()
    figures = {"balanced_accuracy", "auroc", "average_precision", "mcc", "precision_at_100", "brier", "ece"}
    assert metrics["test"].keys() >= figures
    assert list(metrics["audit"]) == [*AUDIT, *WITH_COUNTS]
    assert all("holds no raw counts" in metrics["audit"].pop(name)["reason"] for name in WITH_COUNTS)
    for scores in metrics["audit"].values():
        assert scores.keys() >= {"balanced_accuracy", "auroc", "average_precision"}
    for value in (scores[name] for scores in metrics["audit"].values() for name in figures & scores.keys()):
        assert 0 <= value < 1 + 1e-9
    assert all(0 <= metrics["test"][name] < 1 + 1e-9 for name in figures)
    assert metrics["store"]["plan_hash"] == images.spec.plan_hash
    assert {"pairscape", "torch", "numpy"} <= metrics["versions"].keys()
    assert sum(map(sum, metrics["confusion"])) == metrics["n_test"]


def test_the_configuration_in_the_folder_is_the_one_that_was_run(run, images):
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["seed"] == 0
    assert config["training"]["epochs"] == 10
    shares = {"test_share": 0.3, "validation_share": 0.1}
    assert config["splitting"] == {"split": "both", **shares, "negatives": "all", "min_matched": 0.5}
    assert config["rendering"]["channels"] == "log+residual"
    assert config["store"]["plan_hash"] == images.spec.plan_hash


def test_history_has_a_row_an_epoch(run):
    rows = history(run)
    assert list(rows[0]) == list(HISTORY)
    assert [row["epoch"] for row in rows] == list(range(10))


def test_predictions_are_the_test_pairs_and_give_the_figures(run, metrics, images):
    table = pd.read_parquet(run / "predictions.parquet")
    assert list(table)[:5] == ["gene_a", "gene_b", "label", "score", "fold"]
    assert list(table)[5:] == AUDIT
    folds = make_folds(images, Recipe(training=QUICK), 0)
    gene, pairs = images.array("gene").astype(object), images.pairs()
    assert table["gene_a"].tolist() == gene[pairs.gene_a[folds.test]].tolist()
    assert table["gene_b"].tolist() == gene[pairs.gene_b[folds.test]].tolist()
    assert table["label"].tolist() == pairs.label[folds.test].tolist()
    assert len(table) == metrics["n_test"]
    assert (table["label"] > 0).mean() == metrics["prevalence"]
    for name, score in [("score", metrics["test"]), *((name, metrics["audit"][name]) for name in AUDIT)]:
        assert roc_auc_score(table["label"], table[name]) == pytest.approx(score["auroc"], abs=1e-3)
        assert average_precision_score(table["label"], table[name]) == pytest.approx(
            score["average_precision"], abs=1e-3
        )


def test_saved_weights_are_the_ones_that_made_the_predictions(run, images):
    network = TrainedNetwork.load(run)
    classifier, facts = network.classifier, network.facts
    assert isinstance(classifier, PairClassifier)
    folds = make_folds(images, Recipe(training=QUICK), 0)
    label = images.array("label")
    raw = 1 - score_rows(classifier, images, folds.test, lambda _: None)[:, 0]
    natural = (label[folds.train] > 0).mean()
    table = pd.read_parquet(run / "predictions.parquet")
    np.testing.assert_allclose(table["score"], prior_corrected(raw, facts.shown, natural), atol=1e-6)
    best = max(history(run), key=lambda row: (round(row["validation_average_precision"], 9), -row["validation_loss"]))
    assert facts.epoch == best["epoch"]


def test_the_report_is_written_and_names_the_headline(run, metrics):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert f"{metrics['test']['balanced_accuracy']:.3f}" in page
    assert "The network collapsed" not in page


def test_a_run_is_not_written_over_unless_asked(images, run, tmp_path):
    before = (run / "metrics.json").read_bytes()
    with pytest.raises(InputError, match="not empty"):
        train_run(images, run, Recipe(), 0, Session())
    assert (run / "metrics.json").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        train_run(images, tmp_path, Recipe(), 0, Session(), overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    pairscape.train(images.path, copy, training=Training(epochs=1), overwrite=True, quiet=True)
    assert len(history(copy)) == 1


MISTAKES = {
    "network": {"training": Training(network="resnet")},
    "loss": {"training": Training(loss="hinge")},
    "class weights": {"training": Training(loss="weighted", class_weights=(1.0, 2.0, 3.0))},
    "device": {"training": Training(device="tpu")},
    "channels": {"rendering": Rendering(channels="logs")},
    "pool": {"rendering": Rendering(pool=3)},
    "small": {"rendering": Rendering(pool=2)},
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_options_neither_begins_a_run_nor_ends_an_earlier_one(images, run, tmp_path, name):
    new, old = tmp_path / "new", tmp_path / "old"
    with pytest.raises(InputError):
        pairscape.train(images.path, new, **MISTAKES[name], quiet=True)
    assert not new.exists()
    shutil.copytree(run, old)
    with pytest.raises(InputError):
        pairscape.train(images.path, old, **MISTAKES[name], overwrite=True, quiet=True)
    assert {path.name for path in old.iterdir()} == FILES


# ---------------------------------------------------------------- collapse


def test_the_originals_recipe_collapses_and_says_so(images, tmp_path):
    told = pairscape.train(images.path, tmp_path / "run", preset="deep-cell", quiet=True)
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert told["collapsed"] is stored["collapsed"] is True
    assert "nearly constant" in stored["collapse_reason"]
    assert stored["test"]["balanced_accuracy"] == pytest.approx(0.5, abs=0.05)
    assert "The network collapsed" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert config["training"]["network"] == "deep-cell-1"
    assert config["rendering"] == {"channels": "counts", "pool": 1, "sigma": 16.0, "drop_both_zero": True}
    assert config["training"]["learning_rate"] == 0.05


def test_a_network_that_blows_up_is_reported_not_crashed(images, tmp_path, capsys):
    training = Training(optimizer="sgd", learning_rate=1e25, schedule="constant", epochs=2)
    told = train_run(images, tmp_path / "run", Recipe(training=training), 0, Session())
    assert told["collapsed"]
    assert "epoch 1 of 2" in told["failure"]
    assert "lower the learning rate (now 1e+25)" in told["failure"]
    assert len(history(tmp_path / "run")) == 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    print_closing(told, tmp_path / "run")
    assert "FAILED training broke off" in " ".join(capsys.readouterr().out.split())


def test_a_network_that_blows_up_late_is_kept_as_it_was_before(images, tmp_path, monkeypatch):
    learned, epoch = train_module._train_epoch, iter(range(9))
    monkeypatch.setattr(train_module, "_train_epoch", lambda *a: learned(*a) if next(epoch) < 1 else math.nan)
    fitted = quick_fit(images, tmp_path, epochs=5)
    assert "epoch 2 of 5" in fitted.failure
    assert "the best epoch before it is kept" in fitted.failure
    assert load_weights(tmp_path / "model.safetensors")[1]["epoch"] == 0
    assert len(history(tmp_path)) == 2


def test_a_pass_is_broken_off_once_the_loss_is_no_number(images, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "CHECKED", 2)
    stages = Counted()
    recipe = Recipe(
        training=Training(epochs=1, batch_size=32, optimizer="sgd", learning_rate=1e25, schedule="constant")
    )
    tmp_path.joinpath("run").mkdir()
    fit(images, make_folds(images, recipe, 0), recipe, tmp_path / "run", 0, stages)
    assert 0 < stages.done < stages.total / 2


class Counted(Silent):
    """Progress that counts."""

    total = done = 0

    def start(self, stage, total):
        self.total = total

    def advance(self, units):
        self.done += units


def test_presets_are_known_by_name():
    assert preset("pairscape") == Recipe()
    with pytest.raises(InputError, match="'deepcell' is unknown"):
        preset("deepcell")


# ---------------------------------------------------------------- labels that do not suffice


def relabelled(images, label):
    """The store's pairs under other labels, as `Images` gives them."""

    class Relabelled(type(images)):
        def array(self, name):
            return np.asarray(label, np.int8) if name == "label" else super().array(name)

    return Relabelled(images.path, images.spec, images.provenance)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (-1, "has no labels"),
        (0, "training fold .* has 0 positive and .* negative pairs"),
        (1, "training fold .* has .* positive and 0 negative pairs"),
    ],
)
def test_labels_of_one_class_are_refused_before_anything_is_written(images, tmp_path, label, words):
    store = relabelled(images, np.full(images.spec.n_pairs, label))
    with pytest.raises(InputError, match=words):
        train_run(store, tmp_path / "run", Recipe(), 0, Session())
    assert not (tmp_path / "run").exists()


def test_a_fold_without_positives_is_named(images, tmp_path):
    label = np.zeros_like(images.array("label"))
    label[0] = 1  # one positive pair cannot lie in three folds
    with pytest.raises(InputError, match=r"the \w+ fold .* has 0 positive .*larger shares"):
        train_run(relabelled(images, label), tmp_path / "run", Recipe(), 0, Session())


# ---------------------------------------------------------------- another store


def test_a_run_is_worth_as_much_on_cells_and_genes_it_never_saw(run, root, tmp_path):
    other = curved_store(root, seed=1)
    told = evaluate_run(run, other, tmp_path / "out", Session())
    assert told["test"]["auroc"] > 0.9
    assert told["split"] == "another store"
    assert told["store"]["plan_hash"] == other.spec.plan_hash
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {
        "model.safetensors",
        "model-card.md",
        "reference.safetensors",
    }
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == told
    assert list(told["audit"]) == [*AUDIT, *WITH_COUNTS]


def test_evaluating_leaves_the_run_as_it_was(root, run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    pairscape.evaluate(copy, curved_store(root, seed=1).path, quiet=True)
    assert {path.name for path in copy.iterdir()} == {*FILES, "on-images"}
    assert {name: (copy / name).read_bytes() for name in before} == before


def test_pictures_of_other_bins_are_refused(root, run, tmp_path):
    other = curved_store(root, bins=20)
    with pytest.raises(InputError, match=r"has 20 bins and .* was trained on 16.*--bins 16"):
        evaluate_run(run, other, tmp_path / "out", Session())
    assert not (tmp_path / "out").exists()


def test_a_store_with_one_class_cannot_be_evaluated_on(run, images, tmp_path):
    with pytest.raises(InputError, match="too few labelled pairs of both classes"):
        evaluate_run(run, relabelled(images, np.zeros(images.spec.n_pairs)), tmp_path / "out", Session())
    assert not (tmp_path / "out").exists()


def test_mirrors_share_a_half_when_another_store_is_evaluated_on(root, run, monkeypatch, tmp_path):
    """The audit's models learn from one half: a mirror in the other would give its label away."""
    found = []
    monkeypatch.setattr(
        "pairscape.model.training.run.evaluate",
        lambda classifier, images, folds, *_, **__: found.append(folds) or 1 / 0,
    )
    images = directed_store(root)
    with pytest.raises(ZeroDivisionError):
        evaluate_run(run, images, tmp_path / "out", Session())
    (folds,) = found
    assert isinstance(folds, Folds)
    group = mirror_groups(folds.pairs, images.array("gene").size)
    assert not np.intersect1d(group[folds.train], group[folds.test]).size


# ---------------------------------------------------------------- the classifier


def test_where_labels_have_no_direction_both_orders_of_a_pair_score_the_same(images):
    torch.manual_seed(0)
    counts = torch.from_numpy(images.counts(slice(0, 16)).astype(np.int32))
    neither = torch.zeros(16, dtype=torch.int32)
    for mirror in (True, False):
        classifier = PairClassifier("pairnet", Rendering(), 16, 2, mirror).eval()
        with torch.inference_mode():
            one, other = classifier.probabilities(counts, neither), classifier.probabilities(counts.mT, neither)
        assert torch.allclose(one, other, atol=1e-6) is mirror


def test_the_mirror_of_a_direction_is_the_other_direction(images):
    torch.manual_seed(0)
    counts = torch.from_numpy(images.counts(slice(0, 16)).astype(np.int32))
    neither = torch.zeros(16, dtype=torch.int32)
    for mirror in (True, False):
        classifier = PairClassifier("pairnet", Rendering(), 16, 3, mirror).eval()
        with torch.inference_mode():
            one, other = classifier.probabilities(counts, neither), classifier.probabilities(counts.mT, neither)
        assert torch.allclose(one, other[:, [0, 2, 1]], atol=1e-6) is mirror
        assert not torch.allclose(one, other, atol=1e-3)


def test_a_mirrored_image_takes_the_label_of_the_mirror():
    counts, label = torch.arange(6 * 4).view(6, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    flip = torch.tensor([True, True, True, False, False, False])
    shown, directed = train_module.mirrored(counts, label, flip, 3)
    assert torch.equal(shown, torch.cat([counts[:3].mT, counts[3:]]))
    assert directed.tolist() == [0, 2, 1, 0, 1, 2]
    assert train_module.mirrored(counts, label.clamp_max(1), flip, 2)[1].tolist() == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(("regulators", "labels", "mirror"), [(False, 2, True), (True, 2, False), (True, 3, True)])
def test_mirrors_are_shown_where_it_is_known_what_they_mean(images, tmp_path, regulators, labels, mirror):
    named = {"pairs": {"regulators": "tf.txt"} if regulators else {"pairs": "list.csv"}}
    label = images.array("label").copy()
    label[np.flatnonzero(label)[::2]] = labels - 1
    store = replace(relabelled(images, label), provenance=named)
    assert quick_fit(store, tmp_path, ratio=1.0).network.classifier.mirror is mirror


def test_training_goes_on_where_nothing_can_be_compiled(images, tmp_path, monkeypatch):
    def no_compiler(module):
        def fail(*_):
            raise RuntimeError("no C++ compiler\nfound")

        return fail

    plain = quick_fit(images, tmp_path / "plain")
    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.warns(UserWarning, match=r"does not work here, so training goes on without: no C\+\+ compiler found"):
        told = quick_fit(images, tmp_path / "compiled", compile=True)
    assert torch.equal(plain.network.classifier.network.stem.weight, told.network.classifier.network.stem.weight)


def test_an_error_of_ones_own_is_not_taken_for_a_compilers(monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    classifier = PairClassifier("pairnet", Rendering(), 16, 2, False)
    monkeypatch.setattr(classifier, "forward", broken)
    monkeypatch.setattr(torch, "compile", lambda module: lambda *batch: module(*batch))
    with pytest.raises(RuntimeError, match="out of memory"):  # and no warning, which would be an error here
        optimize.compiled(classifier)(torch.zeros(2, 16, 16), torch.zeros(2))


def test_a_gpu_computes_in_bfloat16_and_a_cpu_does_not(monkeypatch, refuses):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    choose = choose_precision
    assert (choose("auto", cpu), choose("float32", gpu), choose("bfloat16", cpu)) == (None, None, torch.bfloat16)
    for known in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, known=known: known)
        assert choose("auto", gpu) is (torch.bfloat16 if known else None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old one")
    with refuses("bfloat16", "an old one", "give auto or float32"):
        choose("bfloat16", gpu)


def test_labels_of_replicates_and_of_all_pairs_have_no_direction(root, tmp_path):
    expression, _, _ = curved_expression(60, 2, 3, seed=0)
    images = make_store(tmp_path, expression, PairSource(all_pairs=True, labels="replicate"), Binning("rank", 16))
    assert not is_directed(images)


def test_direction_needs_a_label_or_a_list_of_regulators_that_tells_it(root):
    images = small_store(root)
    assert not is_directed(images)
    label = images.array("label").copy()
    label[0] = 2
    assert is_directed(relabelled(images, label))
    named = replace(images, provenance={"pairs": {"regulators": "tf.txt"}})
    assert is_directed(named)


def test_a_device_that_is_not_there_is_refused():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(InputError, match=r"'tpu' is not available here; give auto or one of: .*cpu"):
        choose_device("tpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gamma": -0.5}, "gamma is -0.5"),
        ({"gamma": math.nan}, "gamma is nan"),
        ({"gamma": math.inf}, "gamma is inf"),
        ({"precision": "float16"}, "precision 'float16' is unknown; give auto, float32 or bfloat16"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, words, refuses):
    with refuses(words):
        Training(**options)
