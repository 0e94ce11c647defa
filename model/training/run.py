"""The jobs of a run folder: train, evaluate, audit and report; and a trained run on another store."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pairscape.model.batches.folds import Folds
from pairscape.model.batches.many import AnyImages, ManyStores
from pairscape.model.batches.many_folds import any_folds
from pairscape.model.batches.store_folds import halves
from pairscape.model.evaluation.evaluate import Evaluation, evaluate, save_evaluation, store_facts
from pairscape.model.evaluation.evaluate_many import any_examples, any_store_facts, evaluate_any
from pairscape.model.evaluation.measure import PairSample, find_shift, random_pairs, sample_rows
from pairscape.model.evaluation.reference import load_reference, make_reference, save_reference
from pairscape.model.evaluation.shift import UNCOMPARED, shift_lines
from pairscape.model.networks.classifier import TrainedNetwork, require_genes_known
from pairscape.model.networks.device import choose_device
from pairscape.model.networks.weights import read_metrics, read_recipe, trained_values, write_config
from pairscape.model.options import Recipe
from pairscape.model.reports.card import source_facts, write_card
from pairscape.model.reports.run_report import write_report
from pairscape.model.training.checkpoint import job_of, machine_of, read_checkpoint
from pairscape.model.training.duration import Foretelling, try_scoring
from pairscape.model.training.train import check_recipe, fit, write_history
from pairscape.pipeline.compute.progress import Progress, silent
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.matrix.alike import unlike
from pairscape.pipeline.storage.results import CHECKPOINT, check_result, result_folder


def train_run(
    images: AnyImages,
    run: Path,
    recipe: Recipe,
    seed: int,
    session: Session,
    *,
    overwrite: bool = False,
    runs: int = 1,
) -> dict[str, Any]:
    """Train on a store, or on several, and write the whole run folder; returns what `metrics.json` holds.

    Everything about the labels, the recipe and the folder is checked before anything is written. A training of the same
    recipe, seed and stores that was interrupted there goes on after its last finished epoch, also with `overwrite`.

    Parameters
    ----------
    runs
        Like this one that are still to be made, this one among them; for what the user is told of the time.

    Raises
    ------
    InputError
        A run is there already and may not be replaced, or something else is there, such as an interrupted training of
        another recipe; the store's labels do not suffice, or the recipe does not fit.
    JobError
        Another process trains into the folder, or it cannot be written.
    """
    folds = any_folds(images, recipe, seed)
    check_recipe(images, folds, recipe)
    job = job_of(images, folds, recipe, seed)
    with result_folder(run, "network", overwrite=overwrite, job=job) as (folder, begun):
        if begun:
            session.say(f"{run} holds an unfinished training, which was interrupted: {_goes_on(folder, job, recipe)}")
        for note in folds.notes:
            session.say(note)
        told = replace(session, progress=_foretelling(images, folds, recipe, session, runs))
        return _train(images, folds, folder, recipe, seed, told)


def _goes_on(folder: Path, job: str, recipe: Recipe) -> str:
    """What becomes of an interrupted training."""
    if (found := read_checkpoint(folder / CHECKPOINT, job)) is None:
        return "it is begun anew"
    done, here, there = len(found.facts["standing"]["rows"]), machine_of(recipe), found.facts["machine"]
    differs = [f"{name} {there.get(name)} then and {here[name]} now" for name in here if here[name] != there.get(name)]
    digits = (
        f" ({', '.join(differs)}: weights may differ in the last digits from those of one piece)" if differs else ""
    )
    return f"it goes on after epoch {done} of {recipe.training.epochs}{digits}"


def _foretelling(images: AnyImages, folds: Folds, recipe: Recipe, session: Session, runs: int) -> Progress:
    """Progress that says how long it will take, where there is somebody to be told."""
    if session.say is silent:
        return session.progress
    session.progress.start("trying network", 0)
    tried = try_scoring(images, folds, recipe)
    return Foretelling(session.progress, session.say, recipe.training, tried, runs)


def _train(images: AnyImages, folds: Folds, run: Path, recipe: Recipe, seed: int, session: Session) -> dict[str, Any]:
    """Everything of a run, into its folder."""
    write_config(run / "config.toml", recipe, _facts(images), seed)
    fitted = fit(images, folds, recipe, run, seed, session.progress)
    network = fitted.network
    if not isinstance(images, ManyStores):  # one reference is of one matrix: what is like several is not known
        session.progress.start("describing pairs", 0)
        _save_reference(run, network, images, folds, seed)
    result = evaluate_any(network.classifier, images, folds, network.facts.correction, seed, session.progress)
    extra: dict[str, Any] = {
        "split": recipe.splitting.split,
        "seconds": {"train": fitted.seconds},
        "failure": fitted.failure,
        "folds_hash": folds.content_hash(),
        "weights": network.sha256,
    }
    if folds.notes:
        extra["notes"] = list(folds.notes)
    session.progress.start("drawing report", 0)
    metrics = _finish(run, result, extra, images, folds, seed)
    write_card(run)
    return metrics


def _facts(images: AnyImages) -> dict[str, Any]:
    """What a run's `config.toml` says of its store, or of each of its stores."""
    if not isinstance(images, ManyStores):
        return store_facts(images) | {"source": source_facts(images)}
    found = any_store_facts(images)
    for table, store in zip(found["stores"], images.stores, strict=True):
        table["source"] = source_facts(store)
    return found


def _save_reference(run: Path, network: TrainedNetwork, images: Images, folds: Folds, seed: int) -> None:
    sample = PairSample.of_rows(images, sample_rows(folds.train, seed), network.classifier)
    at_random = random_pairs(images, network.classifier, seed)
    save_reference(run, make_reference(network, sample, at_random, seed), network.sha256)


def evaluate_run(run: Path, images: Images, out: Path, session: Session) -> dict[str, Any]:
    """Score all labelled pairs of another store with a trained run; returns what `metrics.json` holds.

    Thresholds and the audit's trained rows need labels of this store: half of the pairs place them, drawn by the run's
    seed, and the figures are about the other half. The session says before how far the pairs are from the training's.

    Raises
    ------
    InputError
        The run and the store do not fit together, the store has no labels of both classes, `run` holds repeats or is
        unfinished, one of its files is damaged or not its own, or `out` holds anything but an earlier evaluation.
    """
    network = TrainedNetwork.open(run)
    check_result(out, "evaluation", overwrite=True)
    recipe, seed = read_recipe(run / "config.toml")
    reference, classifier, bins = load_reference(run, network), network.classifier, network.facts.bins
    if images.spec.binning.bins != bins:
        raise InputError(
            f"{images.path} has {images.spec.binning.bins} bins and {run} was trained on {bins}; the pictures would "
            f"mean something else: make the store with --bins {bins}."
        )
    require_genes_known(classifier, images)
    if differs := unlike(trained_values(read_metrics(run)), images.values, run, str(images.path)):
        session.say(f"warning: {differs}")
    folds = halves(images, seed)
    extra: dict[str, Any] = {"split": "another store", "seconds": {}, "weights": network.sha256}
    classifier.to(choose_device("auto"))
    if reference is not None:
        sample = PairSample.of_rows(images, sample_rows(np.union1d(folds.train, folds.test), seed), classifier)
        at_random = partial(random_pairs, images, classifier, seed)
        extra["shift"] = find_shift(reference, network, sample, at_random, folds.natural).facts()
    for line in shift_lines(extra.get("shift")) or [UNCOMPARED]:
        session.say(line)
    result = evaluate(classifier, images, folds, network.facts.correction, seed, session.progress)
    with result_folder(out, "evaluation", overwrite=True) as (folder, _):
        write_config(folder / "config.toml", recipe, store_facts(images), seed)
        write_history(folder / "history.csv")
        if (run / "history.csv").exists():  # a portable model comes without
            shutil.copyfile(run / "history.csv", folder / "history.csv")
        session.progress.start("drawing report", 0)
        return _finish(folder, result, extra, images, folds, seed)


def _finish(
    run: Path, result: Evaluation, extra: dict[str, Any], images: AnyImages, folds: Folds, seed: int
) -> dict[str, Any]:
    metrics = save_evaluation(run, result, extra, any_examples(images, folds, result, seed))
    write_report(run)
    return metrics
