"""The report of a search: an optuna study in; `trials.csv`, `study.json` and `report.html` out."""

import csv
import json
from pathlib import Path
from typing import Any

import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from pairscape.model.networks.weights import write_text
from pairscape.model.reports.figures import styled, svg_text
from pairscape.model.reports.page import write_page

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
DEFAULT = "default"  # attribute of the trial that is the recipe as given


def write_study(folder: Path, study: optuna.Study, metrics: dict[str, Any]) -> dict[str, Any]:
    """Write the files of a study; returns what `study.json` holds.

    `metrics` are those of the best recipe, trained in full.
    """
    trials = sorted(study.get_trials(states=FINISHED), key=lambda trial: trial.number)
    default = next(trial for trial in trials if trial.user_attrs.get(DEFAULT))
    found = {
        "trials": len(trials),
        "pruned": sum(trial.state == TrialState.PRUNED for trial in trials),
        "best": {"number": study.best_trial.number, "score": study.best_value, "parameters": study.best_params},
        "default": {"number": default.number, "score": default.value, "parameters": default.params},
        "importance": importance(study),
        "test": metrics["test"],
    }
    _write_table(folder / "trials.csv", trials)
    write_text(folder / "study.json", json.dumps(found, indent=2) + "\n")
    write_page(folder / "report.html", "study.html.j2", page_words(folder.name, found, trials))
    return found


def importance(study: optuna.Study) -> dict[str, float]:
    """Share of the variance of the scores that each parameter explains (fANOVA), largest first; empty if unknown."""
    values = {trial.value for trial in study.get_trials(states=[TrialState.COMPLETE])}
    return dict(get_param_importances(study)) if len(values) > 1 else {}


def _write_table(path: Path, trials: list[FrozenTrial]) -> None:
    names = _parameter_names(trials)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["trial", "state", "score", "epochs", "seconds", *names])
        table.writerows([*_facts(trial), *(trial.params.get(name, "") for name in names)] for trial in trials)


def _facts(trial: FrozenTrial) -> list[Any]:
    seconds = round(trial.duration.total_seconds(), 1) if trial.duration else ""
    return [trial.number, trial.state.name.lower(), score_of(trial), len(trial.intermediate_values), seconds]


def score_of(trial: FrozenTrial) -> float:
    """Best average precision that a trial reached, pruned or not."""
    return max(trial.intermediate_values.values(), default=0.0) if trial.value is None else trial.value


def _parameter_names(trials: list[FrozenTrial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def page_words(name: str, found: dict[str, Any], trials: list[FrozenTrial]) -> dict[str, Any]:
    """What the template of the report is filled with."""
    return {
        "name": name,
        "found": found,
        "rows": [
            {"facts": _facts(trial), "best": trial.number == found["best"]["number"], "params": trial.params}
            for trial in sorted(trials, key=score_of, reverse=True)
        ],
        "names": _parameter_names(trials),
        "pictures": {
            "course": svg_text(course_figure(trials)),
            "importance": svg_text(importance_figure(found["importance"])),
        },
    }


@styled
def course_figure(trials: list[FrozenTrial]) -> Figure:
    """Score of every trial in turn, and the best so far."""
    figure = Figure(figsize=(5.6, 3.0), layout="constrained")
    axes = figure.subplots()
    numbers, scores = [trial.number for trial in trials], [score_of(trial) for trial in trials]
    kept = [trial.state == TrialState.COMPLETE for trial in trials]
    for wanted, marker, label in ((True, "o", "ran to the end"), (False, "x", "stopped early")):
        chosen = [i for i, whole in enumerate(kept) if whole == wanted]
        axes.plot([numbers[i] for i in chosen], [scores[i] for i in chosen], marker, label=label)
    axes.step(numbers, [max(scores[: i + 1]) for i in range(len(scores))], where="post", label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel="average precision, validation fold")
    axes.legend(loc="lower right")
    return figure


@styled
def importance_figure(shares: dict[str, float]) -> Figure:
    """How much of the scores' variance each parameter explains."""
    figure = Figure(figsize=(5.6, 3.0), layout="constrained")
    axes = figure.subplots()
    names = list(shares)[::-1]
    axes.barh([name.replace("_", " ") for name in names], [shares[name] for name in names])
    axes.set(xlabel="share of the variance explained", xlim=(0, 1))
    return figure
