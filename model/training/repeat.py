"""Repeats: one recipe trained over folds, seeds or both; a run folder each, and the mean and spread of them all.

A repeat that is finished is not trained again, so that the same command goes on after a kill.
"""

import json
import tomllib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairscape.model.batches.fold_file import count_folds
from pairscape.model.batches.many import AnyImages
from pairscape.model.batches.many_folds import any_folds
from pairscape.model.evaluation.evaluate_many import any_store_facts
from pairscape.model.evaluation.metrics import mean_of, spread_of
from pairscape.model.networks.weights import read_recipe, write_config, write_text
from pairscape.model.options import Recipe, Splitting
from pairscape.model.reports.overview import write_overview
from pairscape.model.reports.run_report import write_report
from pairscape.model.training.checkpoint import job_of
from pairscape.model.training.run import train_run
from pairscape.model.training.train import check_recipe
from pairscape.pipeline.compute.progress import Progress
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.digests import digest
from pairscape.pipeline.storage.results import look, require_result, result_folder
from pairscape.pipeline.storage.write import replaced

MOST_SEEDS = 1000
SUMMARISED = ("test", "audit", "direction")
COUNTS = ("n_test", "n_train", "n_validation")


@dataclass(frozen=True)
class Repeat:
    """One training of several: its run folder (`fold-0`, `seed-0`, `seed-0-fold-0`), recipe with fold, and seed."""

    name: str
    recipe: Recipe
    seed: int


def read_seeds(seeds: int | str | Sequence[int], seed: int) -> tuple[int, ...]:
    """Seeds from an option: a number N is `seed` and the N − 1 after it, several are themselves.

    Raises
    ------
    InputError
        Neither, none at all, one twice, or below 0.
    """
    try:
        if isinstance(seeds, str):
            listed = [int(word) for word in seeds.split(",")]
            found = listed if "," in seeds else range(seed, seed + listed[0])
        else:
            found = range(seed, seed + seeds) if isinstance(seeds, int) else [int(one) for one in seeds]
    except ValueError as error:
        raise InputError(f"seeds {seeds!r}: give how many (3), or which, with commas between them (0,1,2).") from error
    if not 1 <= len(found) <= MOST_SEEDS or len(set(found)) < len(found) or min(found) < 0:
        raise InputError(
            f"seeds {seeds!r}: a recipe is trained once for each; give how many (1 to {MOST_SEEDS}), or which, each "
            "once and from 0 up, with commas between them."
        )
    return tuple(found)


def plan_repeats(recipe: Recipe, seeds: Sequence[int] | None, seed: int) -> list[Repeat]:
    """The repeats in order; none for a single run. `seeds` absent: only `seed`."""
    folds = _folds_to_run(recipe.splitting)
    if seeds is None and folds is None:
        return []
    repeats = []
    for own_seed in [seed] if seeds is None else seeds:
        for fold in [None] if folds is None else range(folds):
            name = [] if seeds is None else [f"seed-{own_seed}"]
            if fold is not None:
                name.append(f"fold-{fold}")
            repeats.append(Repeat("-".join(name), _with_fold(recipe, folds, fold), own_seed))
    return repeats


def _folds_to_run(splitting: Splitting) -> int | None:
    if splitting.fold is not None:
        return None
    if splitting.split == "file" and splitting.folds is None and splitting.fold_file is not None:
        return count_folds(splitting.fold_file)
    return splitting.folds


def _with_fold(recipe: Recipe, folds: int | None, fold: int | None) -> Recipe:
    if fold is None:
        return recipe
    return replace(recipe, splitting=replace(recipe.splitting, folds=folds, fold=fold))


def train_repeats(
    images: AnyImages,
    run: Path,
    recipe: Recipe,
    repeats: Sequence[Repeat],
    session: Session,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train each repeat in a folder of its own in `run`; returns what `metrics.json` of `run` holds.

    All repeats are checked before the first is trained. Those that an earlier call finished are kept; with `overwrite`
    only those that an interrupted call of the same repeats has left. An interrupted one goes on from its last epoch.

    Raises
    ------
    InputError
        A repeat does not fit the store; one that is there has another recipe, seed, store or split; `run` holds
        something else.
    """
    splits, jobs = zip(*(_check(images, repeat) for repeat in repeats), strict=True)
    job = digest({"repeats": jobs})
    with result_folder(run, "repeats", overwrite=overwrite, resume=not overwrite, job=job) as (folder, _):
        kept = [_finished(images, folder, one, split) for one, split in zip(repeats, splits, strict=True)]
        return _train_all(images, folder, recipe, repeats, kept, session)


def _train_all(
    images: AnyImages,
    run: Path,
    recipe: Recipe,
    repeats: Sequence[Repeat],
    kept: Sequence[dict[str, Any] | None],
    session: Session,
) -> dict[str, Any]:
    """Train the repeats of which nothing is kept, and sum all of them up."""
    seeds = list(dict.fromkeys(repeat.seed for repeat in repeats))
    write_config(run / "config.toml", recipe, any_store_facts(images), seeds[0], seeds)
    found = []
    for number, (repeat, metrics) in enumerate(zip(repeats, kept, strict=True), 1):
        session.say(f"{repeat.name}, {number} of {len(repeats)}{': kept from an earlier run' if metrics else ''}")
        left = sum(one is None for one in kept[number - 1 :])
        found.append(metrics or _train(images, run, repeat, session, left))
    return _summarise(run, recipe, repeats, found)


def _check(images: AnyImages, repeat: Repeat) -> tuple[str, str]:
    """Refuse a repeat that cannot be trained; returns the content hash of its folds, and the digest of its job."""
    folds = any_folds(images, repeat.recipe, repeat.seed)
    check_recipe(images, folds, repeat.recipe)
    return folds.content_hash(), job_of(images, folds, repeat.recipe, repeat.seed)


def _finished(images: AnyImages, run: Path, repeat: Repeat, split: str) -> dict[str, Any] | None:
    """Metrics of a repeat that an earlier call finished; None where it is still to be trained."""
    folder = run / repeat.name
    if not (folder / "config.toml").exists():
        return None
    recipe, seed = read_recipe(folder / "config.toml")
    store = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")).get("store", {})
    same = (_without_path(recipe), seed) == (_without_path(repeat.recipe), repeat.seed)
    if not same or store.get("plan_hash") != images.spec.plan_hash:
        what = "another recipe or seed" if not same else "another store"
        raise InputError(f"{folder} was trained with {what}: they would be mixed; give another folder or --overwrite.")
    found = look(folder)
    if found is None or not found.finished or not (folder / "metrics.json").exists():
        return None
    require_result(folder, "config.toml", "metrics.json", "model.safetensors", "predictions.parquet")
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if metrics.get("folds_hash") != split:
        raise InputError(
            f"{folder} was trained with other folds (the file of folds has changed): they would be mixed; give another "
            "folder or --overwrite."
        )
    if not (folder / "report.html").exists():
        write_report(folder)
    return metrics


def _without_path(recipe: Recipe) -> Recipe:
    """Where the file of folds lies does not matter; what it says is compared as folds."""
    if recipe.splitting.fold_file is None:
        return recipe
    return replace(recipe, splitting=replace(recipe.splitting, fold_file=Path("folds")))


def _train(images: AnyImages, run: Path, repeat: Repeat, session: Session, left: int) -> dict[str, Any]:
    """Train a repeat; `left` are to be trained, this one among them."""
    named = replace(session, progress=_Named(session.progress, repeat.name))
    return train_run(images, run / repeat.name, repeat.recipe, repeat.seed, named, overwrite=True, runs=left)


@dataclass(frozen=True)
class _Named:
    """Progress whose stages say which repeat they are of."""

    progress: Progress
    name: str

    def start(self, stage: str, total: int) -> None:
        self.progress.start(f"{self.name} {stage}", total)

    def advance(self, units: int) -> None:
        self.progress.advance(units)


# ---------------------------------------------------------------- all of them together


def _summarise(run: Path, recipe: Recipe, repeats: Sequence[Repeat], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Write `predictions.parquet`, `metrics.json` and `report.html` over all repeats; returns the metrics."""
    _join_predictions(run, repeats)
    metrics = summary(recipe, repeats, found)
    write_text(run / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    write_overview(run)
    return metrics


def summary(recipe: Recipe, repeats: Sequence[Repeat], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Metrics over all repeats: means under the names that they have in one run, spreads, and those of each repeat."""
    summarised = [{key: metrics[key] for key in SUMMARISED if key in metrics} for metrics in found]
    collapsed = {repeat.name: metrics for repeat, metrics in zip(repeats, found, strict=True) if metrics["collapsed"]}
    return {
        "split": recipe.splitting.split,
        "seconds": mean_of([metrics.get("seconds", {}) for metrics in found]),
        "prevalence": float(np.mean([metrics["prevalence"] for metrics in found])),
        **{key: round(np.mean([metrics[key] for metrics in found])) for key in COUNTS},
        **mean_of(summarised),
        "spread": spread_of(summarised),
        "collapsed": bool(collapsed),
        "collapse_reason": "; ".join(f"{name}: {metrics['collapse_reason']}" for name, metrics in collapsed.items()),
        "repeats": [_own(repeat, metrics) for repeat, metrics in zip(repeats, found, strict=True)],
        "seed": repeats[0].seed,
        "seeds": list(dict.fromkeys(repeat.seed for repeat in repeats)),
        "notes": list(dict.fromkeys(note for metrics in found for note in metrics.get("notes", ()))),
        "versions": found[0]["versions"],
        "store": found[0]["store"],
    }


def _own(repeat: Repeat, metrics: dict[str, Any]) -> dict[str, Any]:
    kept = ("prevalence", *COUNTS, "test", "audit", "collapsed")
    fold = {} if repeat.recipe.splitting.fold is None else {"fold": repeat.recipe.splitting.fold}
    return {"name": repeat.name, "seed": repeat.seed, **fold, **{key: metrics[key] for key in kept}}


def _join_predictions(run: Path, repeats: Sequence[Repeat]) -> None:
    """Test scores of all repeats in one table, with fold and seed; a repeat in memory at a time."""
    with replaced(run / "predictions.parquet") as part, ExitStack() as open_files:
        writer: pq.ParquetWriter | None = None
        for repeat in repeats:
            table = pq.read_table(run / repeat.name / "predictions.parquet").replace_schema_metadata()
            fold = pa.array(np.full(len(table), repeat.recipe.splitting.fold or 0, np.int16))
            table = table.set_column(table.schema.get_field_index("fold"), "fold", fold)
            table = table.append_column("seed", pa.array(np.full(len(table), repeat.seed, np.int64)))
            writer = writer or open_files.enter_context(pq.ParquetWriter(part, table.schema))
            writer.write_table(table)
