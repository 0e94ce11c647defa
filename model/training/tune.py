"""The search for a better recipe: trials as tasks on the workers, stopped early, resumed after a kill.

The driver proposes (Optuna's tree-structured Parzen estimator) and records the results. A worker trains one trial a
task and writes its validation score after every epoch into the study's journal, a file that all of them see. Heatmaps
are never counted again. The test fold is used once, at the end, with the best recipe.
"""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import BaseTrial, FixedTrial, TrialState

from pairscape.model.batches.store_folds import make_folds
from pairscape.model.evaluation.evaluate import store_facts
from pairscape.model.networks.device import one_thread
from pairscape.model.networks.published import SMALLEST
from pairscape.model.networks.weights import read_recipe, write_config
from pairscape.model.options import Recipe, Search
from pairscape.model.reports.study import DEFAULT, write_study
from pairscape.model.training.run import train_run
from pairscape.model.training.train import check_recipe, fit
from pairscape.pipeline.compute.allocator import keep_freed_memory
from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import run_tasks
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.images import Images, open_images
from pairscape.pipeline.storage.results import CHECKPOINT, look, require_result, result_folder
from pairscape.pipeline.storage.write import clear_unfinished

NAME = "tune"
BEGUN_AS = "begun as"  # attribute of a trial: the number of the interrupted one that it goes on with
FIRST_TRIALS = 5  # drawn at random, before there is anything to learn from
UNPRUNED = 3  # trials that run to their end, before the median of the earlier ones means something
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Trial:
    """A trial on its way to a worker."""

    number: int
    recipe: Recipe


@dataclass(frozen=True)
class TrialScore:
    """The best average precision of a trial on the validation fold, and whether it was stopped early."""

    value: float
    pruned: bool


def tune(images: Images, folder: Path, base: Recipe, search: Search, seed: int, session: Session) -> dict[str, Any]:
    """Search, then train and evaluate the best recipe; returns what `study.json` holds.

    What an earlier call finished in `folder` is kept.

    Raises
    ------
    InputError
        The folder holds another study, or something else; the recipe or the labels do not fit.
    JobError
        Another process writes there.
    """
    _check(images, base, search, seed)
    with result_folder(folder, "study", resume=True):
        return _search(images, folder, base, search, seed, session)


def _search(images: Images, folder: Path, base: Recipe, search: Search, seed: int, session: Session) -> dict[str, Any]:
    study = _open(folder, images, base, search, seed)
    short = replace(base, training=replace(base.training, epochs=search.trial_epochs))
    session.progress.start("trials", search.trials)
    session.progress.advance(len(study.get_trials(states=DONE)))
    tasks = _proposals(study, short, search, images)
    for task, score in run_tasks(session, run_trial, tasks, str(folder.absolute()), str(images.path), search, seed):
        state = TrialState.PRUNED if score.pruned else TrialState.COMPLETE
        study.tell(task.number, None if score.pruned else score.value, state=state)
        session.progress.advance(1)
    best = propose(FixedTrial(study.best_trial.params), base, search, images.spec.binning.bins)
    metrics = _train_best(images, folder / "best", best, seed, session)
    return write_study(folder, study, metrics)


def _check(images: Images, base: Recipe, search: Search, seed: int) -> None:
    """Refuse what does not fit, before the folder is touched."""
    folds = make_folds(images, base, seed)
    for name, values in (("network", search.networks), ("loss", search.losses)):
        for value in (getattr(base.training, name), *values):
            check_recipe(images, folds, replace(base, training=replace(base.training, **{name: value})))


def _open(folder: Path, images: Images, base: Recipe, search: Search, seed: int) -> optuna.Study:
    """The study, new or as an earlier call left it; trials that were under way then are proposed again, and go on."""
    job: dict[str, Any] = {"store": images.spec.plan_hash, "recipe": asdict(base), "seed": seed}
    del job["recipe"]["splitting"]["min_matched"]  # a check: it changes nothing that is tried
    job |= {"search": {name: value for name, value in asdict(search).items() if name != "trials"}}
    job = json.loads(json.dumps(job, default=str))  # as it is read back; a file of folds by its path
    study = _study(folder, search, seed, load_if_exists=True)
    if not study.user_attrs:
        study.enqueue_trial(point_of(base), user_attrs={DEFAULT: True}, skip_if_exists=True)
        study.set_user_attr("job", job)
    elif study.user_attrs.get("job") != job:
        raise InputError(
            f"{folder} holds the study of another store, recipe, search or seed: its scores would be mixed with these; "
            "give another folder, or the same options as then."
        )
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        begun = trial.number if _trial_folder(folder, trial.number).exists() else trial.user_attrs.get(BEGUN_AS)
        study.enqueue_trial(trial.params, user_attrs=trial.user_attrs | {BEGUN_AS: begun})
    return study


def _study(folder: Path, search: Search, seed: int, *, load_if_exists: bool) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = str(folder / "journal.log")
    storage = JournalStorage(JournalFileBackend(journal, lock_obj=JournalFileOpenLock(journal)))
    if not load_if_exists:
        return optuna.load_study(study_name=NAME, storage=storage, pruner=_pruner(search))
    study = optuna.create_study(
        study_name=NAME, storage=storage, direction="maximize", pruner=_pruner(search), load_if_exists=True
    )
    # A resumed study must not draw the same points again.
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=FIRST_TRIALS, seed=seed + len(study.trials))
    return study


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    if not search.prune:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED)


def _proposals(study: optuna.Study, base: Recipe, search: Search, images: Images) -> Iterator[Trial]:
    for _ in range(search.trials - len(study.get_trials(deepcopy=False, states=DONE))):
        trial = study.ask()
        yield Trial(trial.number, propose(trial, base, search, images.spec.binning.bins))


def run_trial(folder: str, store: str, search: Search, seed: int, task: Trial) -> TrialScore:
    """Train one recipe, report its score epoch by epoch, stop where that is hopeless. Runs on a worker.

    It takes one thread wherever it runs, so that a score does not depend on the worker.
    """
    keep_freed_memory()  # as Dask starts its workers, every batch's memory is given back and cleared anew
    images, run = open_images(store), _trial_folder(Path(folder), task.number)
    study = _study(Path(folder), search, seed, load_if_exists=False)
    frozen = next(t for t in study.get_trials(deepcopy=False) if t.number == task.number)
    trial, scores, stopped = optuna.trial.Trial(study, frozen._trial_id), [0.0], False
    if (begun := frozen.user_attrs.get(BEGUN_AS)) is not None and not run.exists():
        with suppress(FileNotFoundError):
            _trial_folder(Path(folder), begun).rename(run)
    run.mkdir(parents=True, exist_ok=True)
    clear_unfinished(run)

    def stop(epoch: int, score: float) -> bool:
        nonlocal stopped
        scores.append(score if math.isfinite(score) else 0.0)
        if epoch not in frozen.intermediate_values:  # those of an attempt that a worker took with it are told
            trial.report(max(scores), epoch)
        stopped = trial.should_prune() and not frozen.user_attrs.get(DEFAULT)  # all others are compared with it
        return stopped

    write_config(run / "config.toml", task.recipe, store_facts(images), seed)
    with one_thread():
        fit(images, make_folds(images, task.recipe, seed), task.recipe, run, seed, Silent(), stop)
    (run / CHECKPOINT).unlink(missing_ok=True)
    return TrialScore(max(scores), stopped)


def _trial_folder(study: Path, number: int) -> Path:
    return study / "trials" / f"{number:04d}"


def _train_best(images: Images, run: Path, recipe: Recipe, seed: int, session: Session) -> dict[str, Any]:
    """The best recipe trained in full and evaluated on the test fold, unless an earlier call did."""
    found = look(run)
    if found is not None and found.finished and read_recipe(run / "config.toml") == (recipe, seed):
        require_result(run, "config.toml", "metrics.json", "model.safetensors")
        return json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return train_run(images, run, recipe, seed, session, overwrite=True)


# ---------------------------------------------------------------- the space of recipes

CHANNELS = ("log", "residual", "log+residual")
MOST_SIGMA = 2.0  # bins; wider, and a heatmap of 32 bins is a blot, as the original's were
RATES = (1e-4, 1e-2)
RATIOS = (1.0, 20.0)


def propose(trial: BaseTrial, base: Recipe, search: Search, bins: int) -> Recipe:
    """A recipe of the space, with the values that the trial suggests; what is not searched is as in `base`.

    Images of so many `bins` are pooled no further than a network can take.
    """
    shown, trained = base.rendering, base.training
    rendering = replace(
        shown,
        channels=trial.suggest_categorical("channels", _with(shown.channels, CHANNELS)),
        pool=trial.suggest_categorical("pool", _with(shown.pool, _pools(bins))),
        sigma=trial.suggest_float("sigma", 0.0, max(MOST_SIGMA, shown.sigma)),
    )
    training = replace(
        trained,
        network=trial.suggest_categorical("network", _with(trained.network, search.networks)),
        loss=trial.suggest_categorical("loss", _with(trained.loss, search.losses)),
        balance=trial.suggest_categorical("balance", _with(trained.balance, search.balances)),
        learning_rate=_suggest_log(trial, "learning_rate", RATES, trained.learning_rate),
    )
    if training.balance != "natural":  # where the ratio has a meaning
        training = replace(training, ratio=_suggest_log(trial, "ratio", RATIOS, trained.ratio))
    return replace(base, rendering=rendering, training=training)


def point_of(base: Recipe) -> dict[str, Any]:
    """The recipe itself as a point of the space, by the names of the parameters."""
    shown, trained = base.rendering, base.training
    point = {name: getattr(shown, name) for name in ("channels", "pool", "sigma")}
    point |= {name: getattr(trained, name) for name in ("network", "loss", "balance", "learning_rate")}
    return point if trained.balance == "natural" else point | {"ratio": trained.ratio}


def _with(own: Any, choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """The choices, the recipe's own among them."""
    return tuple(dict.fromkeys((*choices, own)))


def _pools(bins: int) -> tuple[int, ...]:
    return tuple(pool for pool in (1, 2, 4) if bins // pool >= SMALLEST and bins % pool == 0) or (1,)


def _suggest_log(trial: BaseTrial, name: str, bounds: tuple[float, float], own: float) -> float:
    return trial.suggest_float(name, min(bounds[0], own), max(bounds[1], own), log=True)
