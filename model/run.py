"""A run folder from start to end: train, evaluate, audit, report; and a trained run on another store."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model.calibration import Taught
from model.checkpoint import read_recipe, write_config
from model.classifier import choose_device, load_classifier, require_genes_known
from model.evaluate import Evaluation, evaluate, save_evaluation, store_facts
from model.report import write_report
from model.spec import Recipe
from model.splits import Folds, mirror_groups
from model.train import check_recipe, fit, is_directed, make_folds
from pipeline.errors import InputError
from pipeline.images import Images
from pipeline.progress import Progress

Say = Callable[[str], None]


def nobody(_: str) -> None:
    """Nobody is told."""


def train_run(
    images: Images,
    run: Path,
    recipe: Recipe,
    seed: int,
    progress: Progress,
    *,
    overwrite: bool = False,
    say: Say = nobody,
) -> dict[str, Any]:
    """Train on a store and write the whole run folder; returns what `metrics.json` holds.

    Everything about the labels, the recipe and the folder is checked before anything is written.

    Parameters
    ----------
    overwrite
        Replace an earlier run there.
    say
        Told what a file of folds left out.

    Raises
    ------
    InputError
        A run is there already, the store's labels do not suffice (see `model.train.make_folds`), or the recipe does
        not fit (see `model.train.check_recipe`).
    """
    folds = make_folds(images, recipe, seed)
    check_recipe(images, folds, recipe)
    _prepare(run, overwrite)
    for note in folds.notes:
        say(note)
    write_config(run / "config.toml", recipe, store_facts(images), seed)
    fitted = fit(images, folds, recipe, run, seed, progress)
    taught = Taught.by(recipe.training, fitted.shown, folds.classes)
    result = evaluate(fitted.classifier, images, folds, taught, fitted.device, seed, progress)
    extra: dict[str, Any] = {
        "split": recipe.splitting.split,
        "seconds": {"train": fitted.seconds},
        "failure": fitted.failure,
        "folds_hash": folds.content_hash(),
    }
    if folds.notes:
        extra["notes"] = list(folds.notes)
    return _finish(run, result, extra, images, folds, seed)


def evaluate_run(run: Path, images: Images, out: Path, progress: Progress) -> dict[str, Any]:
    """Score all labelled pairs of another store with a trained run; returns what `metrics.json` holds.

    Thresholds and the audit's trained rows need labels of this store: half of the pairs place them, drawn by the run's
    seed, and the figures are about the other half.

    Raises
    ------
    InputError
        The run and the store do not fit together, the store has no labels of both classes, or `run` holds repeats.
    """
    recipe, seed = read_recipe(run / "config.toml")
    refuse_repeats(run)
    classifier, facts = load_classifier(run)
    if images.spec.binning.bins != facts["bins"]:
        raise InputError(
            f"{images.path} has {images.spec.binning.bins} bins and {run} was trained on {facts['bins']}; the pictures "
            f"would mean something else: make the store with --bins {facts['bins']}."
        )
    require_genes_known(classifier, images)
    folds = _halves(images, seed)
    out.mkdir(parents=True, exist_ok=True)
    write_config(out / "config.toml", recipe, store_facts(images), seed)
    shutil.copyfile(run / "history.csv", out / "history.csv")
    device = choose_device("auto")
    taught = Taught.by(recipe.training, facts["shown"], facts["classes"])
    result = evaluate(classifier.to(device), images, folds, taught, device, seed, progress)
    return _finish(out, result, {"split": "another store", "seconds": {}}, images, folds, seed)


def refuse_repeats(run: Path) -> None:
    """Refuse a folder of several networks where one is needed.

    Raises
    ------
    InputError
        It is one.
    """
    repeats = sorted(run.glob("*/model.safetensors"))
    if repeats and not (run / "model.safetensors").exists():
        raise InputError(
            f"{run} holds {len(repeats)} repeats, each a network of its own; give one of them, such as "
            f"{repeats[0].parent}."
        )


def _halves(images: Images, seed: int) -> Folds:
    pairs = images.pairs()
    rows = np.flatnonzero(pairs.label >= 0)
    mirror = mirror_groups(pairs, images.array("gene").size)[rows]
    halves = (np.random.default_rng([seed, 8]).random(int(mirror.max(initial=-1)) + 1) < 0.5)[mirror]
    for part in (rows[halves], rows[~halves]):
        if not (pairs.label[part] > 0).any() or not (pairs.label[part] == 0).any():
            raise InputError(
                f"{images.path} has too few labelled pairs of both classes to measure anything on; label more."
            )
    return Folds(pairs, rows[halves], rows[halves], rows[~halves], is_directed(images))


def _prepare(run: Path, overwrite: bool) -> None:
    if (run / "config.toml").exists() and overwrite:
        shutil.rmtree(run)
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise InputError(f"{run} exists and is not empty: two runs would be mixed; give another folder or --overwrite.")
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{run} cannot be made ({error.strerror}): a run needs a folder; give another path."
        ) from error


def _finish(
    run: Path, result: Evaluation, extra: dict[str, Any], images: Images, folds: Folds, seed: int
) -> dict[str, Any]:
    metrics = save_evaluation(run, result, extra, images, folds, seed)
    write_report(run)
    return metrics
