"""The regression museum: why the original project collapsed, cause by cause.

Each cause of SCIENCE.md stands alone in a recipe that learns without it, on a small planted task, and what it does is
asserted: it collapses, or it is clearly worse, or it reports what is not there.
"""

from functools import lru_cache

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from model_fixtures import gene_names, make_store, module_pairs, write_pairs
from pairscape.model.batches.folds import Folds, mirror_groups
from pairscape.model.batches.store_folds import make_folds
from pairscape.model.evaluation.metrics import best_threshold, watch_collapse
from pairscape.model.networks.classifier import score_rows
from pairscape.model.options import Recipe, Rendering, Splitting, Training
from pairscape.model.training.train import fit
from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.options import Binning, PairSource

MODULES, GENES_EACH = 10, 5
HEALTHY = {"epochs": 8, "patience": 8, "batch_size": 64, "ratio": 4.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


def transcript_shares(n_cells, seed):
    """Share of a cell's transcripts that each gene has, (cell, gene), log-normal; genes of a module rise together.

    Thousands of genes share a cell: one has a hundred-thousandth of it, give or take a factor of ten.
    """
    rng = np.random.default_rng(seed)
    module = np.arange(MODULES * GENES_EACH) % MODULES
    factor = rng.normal(size=(n_cells, MODULES))
    own = 0.75 * factor[:, module] + 0.65 * rng.normal(size=(n_cells, module.size))
    typical = rng.uniform(-6.3, -4.8, module.size)
    return 10 ** (typical + 0.4 * own), module


EXPRESSION = {
    "log": lambda share: np.log1p(1e6 * share),  # transcripts per million
    "percent": lambda share: np.log2(1 + 100 * share),  # the original's unit
    "rounded percent": lambda share: np.log2(1 + (100 * share).round(2)),  # and what it kept of it
    "dropout": lambda share: np.log1p(1e6 * share) * (np.random.default_rng(2).random(share.shape) < 0.4),
    "outlier": lambda share: with_outliers(np.log1p(1e6 * share)),
}


def with_outliers(expression):
    """One cell of each gene, another one each time, is six times the maximum of all others."""
    cell = np.random.default_rng(1).permutation(expression.shape[0])[: expression.shape[1]]
    expression[cell, np.arange(expression.shape[1])] = 6 * expression.max(axis=0)
    return expression


@lru_cache
def store_of(root, unit, bins=16, n_cells=300):
    """1,225 labelled pairs of 50 genes, 8 % positive: of one module."""
    share, module = transcript_shares(n_cells, seed=0)
    expression = EXPRESSION[unit](share).astype(np.float32)
    expression[:, 0] = np.maximum(expression[:, 0], 1e-3)  # ingest drops cells without expression
    folder = root / f"museum-{unit.replace(' ', '-')}-{bins}-{n_cells}"
    folder.mkdir()
    pairs = PairSource(pairs=module_pairs(folder / "pairs.csv", module))
    return make_store(folder, expression, pairs, Binning("max", bins))


def trained(images, folder, rendering=Rendering(), folds=None, **settings):
    """AUROC on the test pairs, and whether the network gives every pair the same answer."""
    folder.mkdir()
    recipe = Recipe(rendering, Splitting("pair"), Training(**(HEALTHY | settings)))
    folds = folds or make_folds(images, recipe, 0)
    fitted = fit(images, folds, recipe, folder, 0, Silent())
    label, score = folds.pairs.label, {}
    for name, rows in (("validation", folds.validation), ("test", folds.test)):
        probability = score_rows(fitted.network.classifier, images, rows, lambda _: None)
        score[name] = np.nan_to_num(1 - probability[:, 0].astype(np.float64), nan=0.5)  # no number is no opinion
    threshold = best_threshold(label[folds.validation], score["validation"])
    test = label[folds.test]
    return roc_auc_score(test > 0, score["test"]), watch_collapse(test, score["test"], threshold).collapsed


# ---------------------------------------------------------------- 1: percent of the cell, rounded to two digits


def test_percent_rounded_to_two_digits_has_nothing_left_to_see(root, tmp_path):
    share, _ = transcript_shares(300, seed=0)
    assert (EXPRESSION["rounded percent"](share) == 0).mean() > 0.9
    (log, _), (percent, _) = (trained(store_of(root, unit), tmp_path / unit) for unit in ("log", "percent"))
    rounded, _ = trained(store_of(root, "rounded percent"), tmp_path / "rounded")
    assert min(log, percent) > 0.97  # the unit does no harm, rounding it does
    assert rounded < 0.92


# ---------------------------------------------------------------- 2: 150 bins, then sigma 16


def test_a_wide_blur_takes_what_stands_in_a_corner(root, tmp_path):
    """At 30 bins sigma 3.2 is the blur of 16 at 150, in a twentieth of the time.

    It does so only where a few extreme cells push all others into a corner, as the original's unit did, and to a
    network that sees density alone. Where expression fills the picture it does no harm, and `pairnet`, which also reads
    correlations, learns in any case.
    """
    images, early = store_of(root, "outlier", 30), {"network": "deep-cell-1", "learning_rate": 1e-3, "epochs": 5}
    sharp, _ = trained(images, tmp_path / "sharp", Rendering("log"), **early)
    blurred, _ = trained(images, tmp_path / "blurred", Rendering("log", sigma=3.2), **early)
    ours, _ = trained(images, tmp_path / "ours", Rendering(sigma=3.2), epochs=5)
    assert sharp > 0.95
    assert blurred < sharp - 0.08
    assert ours > 0.95


# ---------------------------------------------------------------- 3: inputs that are not scaled


def test_unscaled_counts_cost_accuracy(root, tmp_path):
    """Counts of up to a thousand do not stop Adam at a sound rate, yet their logarithm is learned from better."""
    images = store_of(root, "dropout", 16, 3000)
    assert images.counts(slice(0, 100)).max() > 1000  # the cells in which neither gene is seen
    published = {
        "network": "deep-cell-1",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "averaging": 0.0,
        "weight_decay": 0.0,
    }
    for name, recipe in (("published", published), ("ours", {})):
        scaled, _ = trained(images, tmp_path / f"{name}-log", Rendering("log"), **recipe)
        unscaled, _ = trained(images, tmp_path / f"{name}-counts", Rendering("counts"), **recipe)
        assert scaled > 0.98
        assert unscaled < scaled - 0.02


# ---------------------------------------------------------------- 4: steps that kill units


def test_adam_at_005_kills_the_original_network(root, tmp_path):
    """At the natural balance, five seeds of five; with four negatives a positive, two or three of five."""
    recipe = {"network": "deep-cell-1", "optimizer": "adam", "averaging": 0.0, "weight_decay": 0.0}
    recipe |= {"schedule": "constant", "balance": "natural"}
    images = store_of(root, "log")
    sound, _ = trained(images, tmp_path / "sound", Rendering("residual"), **recipe, learning_rate=0.001)
    published = trained(images, tmp_path / "published", Rendering("residual"), **recipe, learning_rate=0.05)
    normalised, _ = trained(images, tmp_path / "ours", **(recipe | {"network": "pairnet"}), learning_rate=0.05)
    assert sound > 0.95
    assert published[0] < 0.6
    assert published[1]
    assert normalised > 0.95  # batch norm forgives the rate


def test_plain_gradient_descent_and_dropout_without_normalisation_do_not_move(root, tmp_path):
    recipe = {"optimizer": "sgd", "learning_rate": 0.01, "schedule": "constant", "averaging": 0.0, "weight_decay": 0.0}
    images = store_of(root, "log")
    published, _ = trained(images, tmp_path / "published", Rendering("log"), **recipe, network="cnnc", epochs=5)
    normalised, _ = trained(images, tmp_path / "ours", Rendering("log"), **recipe, network="pairnet", epochs=5)
    assert published < 0.9
    assert normalised > 0.95


# ---------------------------------------------------------------- 5 and 6: scores that are not there

MEMORISING = {"epochs": 15, "patience": 15, "balance": "natural", "weight_decay": 0.0, "averaging": 0.0}


@lru_cache
def coin_store(root):
    """Both orders of 435 pairs under labels that a coin decided: nothing can be learned that holds for other pairs."""
    share, _ = transcript_shares(200, seed=1)
    folder, names, (a, b) = root / "museum-coin", np.array(gene_names(30)), np.triu_indices(30, 1)
    folder.mkdir()
    coin = (np.random.default_rng(0).random(a.size) < 0.5).astype(int)
    both = np.append(names[a], names[b]), np.append(names[b], names[a])
    pairs = PairSource(pairs=write_pairs(folder / "pairs.csv", *both, np.tile(coin, 2)))
    return make_store(folder, EXPRESSION["log"](share[:, :30]).astype(np.float32), pairs, Binning("max", 16))


def dealt(images, group):
    """Folds at random, 60, 10 and 30 %; rows of one group go together."""
    place = (np.random.default_rng(3).permutation(group.max() + 1) / (group.max() + 1))[group]
    parts = place < 0.6, (place >= 0.6) & (place < 0.7), place >= 0.7
    return Folds(images.pairs(), *map(np.flatnonzero, parts), directed=False)


def test_mirrors_torn_apart_report_what_is_not_there(root, tmp_path):
    images = coin_store(root)
    torn, kept = dealt(images, np.arange(870)), dealt(images, mirror_groups(images.pairs(), 30))
    leak, _ = trained(images, tmp_path / "torn", folds=torn, **MEMORISING)
    honest, _ = trained(images, tmp_path / "kept", folds=kept, **MEMORISING)
    assert abs(honest - 0.5) < 0.12  # three standard errors of 130 pairs
    assert leak > honest + 0.2


def test_training_on_the_test_pairs_reports_what_is_not_there(root, tmp_path):
    images = coin_store(root)
    folds = dealt(images, mirror_groups(images.pairs(), 30))
    seen = Folds(folds.pairs, folds.test, folds.test, folds.test, directed=False)
    assert trained(images, tmp_path / "seen", folds=seen, **MEMORISING)[0] > 0.75


def test_a_roc_drawn_with_the_label_in_hand_is_perfect_for_noise():
    """Of the two columns of the network's answer, the one that the label favours is taken for the score."""
    rng = np.random.default_rng(0)
    label, probability = rng.random(2000) < 0.5, rng.random(2000)
    column = np.stack([probability, 1 - probability])
    in_hand = np.where(label, column.max(0), column.min(0))
    assert roc_auc_score(label, in_hand) == 1
    assert abs(roc_auc_score(label, probability) - 0.5) < 0.04
