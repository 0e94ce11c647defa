"""A run folder from start to end: train, evaluate, audit, report; and a trained run on another store."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from pairscape.model.batches.folds import Folds, mirror_groups
from pairscape.model.batches.store_folds import is_directed, make_folds
from pairscape.model.evaluation.evaluate import Evaluation, evaluate, save_evaluation, store_facts
from pairscape.model.evaluation.measure import find_shift
from pairscape.model.evaluation.reference import load_reference, make_reference, save_reference
from pairscape.model.evaluation.sample import CountedPairs, codes_at_hand, sample_rows
from pairscape.model.evaluation.shift import UNCOMPARED, Reference, shift_lines
from pairscape.model.networks.classifier import PairClassifier, load_classifier, require_genes_known
from pairscape.model.networks.device import choose_device
from pairscape.model.networks.prior import Taught
from pairscape.model.networks.weights import read_recipe, refuse_repeats, write_config
from pairscape.model.options import Recipe
from pairscape.model.reports.card import source_facts, write_card
from pairscape.model.reports.run_report import write_report
from pairscape.model.training.train import History, check_recipe, fit
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.images import Images


def train_run(
    images: Images,
    run: Path,
    recipe: Recipe,
    seed: int,
    session: Session,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train on a store and write the whole run folder; returns what `metrics.json` holds.

    Everything about the labels, the recipe and the folder is checked before anything is written.

    Parameters
    ----------
    overwrite
        Replace an earlier run there.

    Raises
    ------
    InputError
        A run is there already, the store's labels do not suffice (see `model.training.train.make_folds`), or the recipe
        does not fit (see `model.training.train.check_recipe`).
    """
    folds = make_folds(images, recipe, seed)
    check_recipe(images, folds, recipe)
    _prepare(run, overwrite)
    for note in folds.notes:
        session.say(note)
    write_config(run / "config.toml", recipe, store_facts(images) | {"source": source_facts(images)}, seed)
    fitted = fit(images, folds, recipe, run, seed, session.progress)
    taught = Taught.by(recipe.training, fitted.shown, folds.classes)
    save_reference(run, _reference(fitted.classifier, images, folds, taught, seed))
    result = evaluate(fitted.classifier, images, folds, taught, fitted.device, seed, session.progress)
    extra: dict[str, Any] = {
        "split": recipe.splitting.split,
        "seconds": {"train": fitted.seconds},
        "failure": fitted.failure,
        "folds_hash": folds.content_hash(),
    }
    if folds.notes:
        extra["notes"] = list(folds.notes)
    metrics = _finish(run, result, extra, images, folds, seed)
    write_card(run)
    return metrics


def _reference(classifier: PairClassifier, images: Images, folds: Folds, taught: Taught, seed: int) -> Reference:
    """What the training pairs look like, and random pairs of their matrix."""
    sample = CountedPairs.of_rows(images, sample_rows(folds.train, seed), classifier)
    return make_reference(classifier, taught, folds.natural, sample, _at_random(images, classifier, seed), seed)


def _at_random(images: Images, classifier: PairClassifier, seed: int) -> CountedPairs | None:
    """Random pairs of a store's matrix; None where its codes are gone."""
    codes = codes_at_hand(images)
    return None if codes is None else CountedPairs.at_random(codes, classifier, seed)


def evaluate_run(run: Path, images: Images, out: Path, session: Session) -> dict[str, Any]:
    """Score all labelled pairs of another store with a trained run; returns what `metrics.json` holds.

    Thresholds and the audit's trained rows need labels of this store: half of the pairs place them, drawn by the run's
    seed, and the figures are about the other half.

    The session says before anything is scored how far the pairs are from the training's.

    Raises
    ------
    InputError
        The run and the store do not fit together, the store has no labels of both classes, `run` holds repeats, or its
        `reference.safetensors` is damaged or of other weights.
    """
    recipe, seed = read_recipe(run / "config.toml")
    refuse_repeats(run)
    classifier, facts = load_classifier(run)
    reference = load_reference(run, classifier)
    if images.spec.binning.bins != facts["bins"]:
        raise InputError(
            f"{images.path} has {images.spec.binning.bins} bins and {run} was trained on {facts['bins']}; the pictures "
            f"would mean something else: make the store with --bins {facts['bins']}."
        )
    require_genes_known(classifier, images)
    folds = _halves(images, seed)
    out.mkdir(parents=True, exist_ok=True)
    write_config(out / "config.toml", recipe, store_facts(images), seed)
    History(out / "history.csv")
    if (run / "history.csv").exists():  # a portable model comes without
        shutil.copyfile(run / "history.csv", out / "history.csv")
    device, extra = choose_device("auto"), dict[str, Any](split="another store", seconds={})
    classifier.to(device)
    if reference is not None:
        sample = CountedPairs.of_rows(images, sample_rows(np.union1d(folds.train, folds.test), seed), classifier)
        found = find_shift(
            reference, classifier, facts, sample, lambda: _at_random(images, classifier, seed), folds.natural
        )
        extra["shift"] = found.facts()
    for line in shift_lines(extra.get("shift")) or [UNCOMPARED]:
        session.say(line)
    result = evaluate(classifier, images, folds, Taught.recorded(facts), device, seed, session.progress)
    return _finish(out, result, extra, images, folds, seed)


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
