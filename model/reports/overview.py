"""The report of several repeats: their `metrics.json` in, `report.html` out, with means, spreads and a row a repeat."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairscape.model.reports.figures import SCORERS, ScorerLook
from pairscape.model.reports.page import finite, number, percent, whole, write_page
from pairscape.model.reports.run_report import EXPRESSION_BASELINES, label_leak, split_words
from pairscape.pipeline.errors import InputError

METRICS = {"average_precision": "Average precision", "auroc": "AUROC", "balanced_accuracy": "Balanced accuracy"}
CHANCE = {"average_precision": 0.0, "auroc": 0.5, "balanced_accuracy": 0.5}  # where a strip of dots begins


def holds_repeats(run: Path) -> bool:
    """Whether a run folder holds several repeats rather than one run; False where its metrics cannot be read."""
    return _read_repeats(run) is not None


def _read_repeats(run: Path) -> dict[str, Any] | None:
    try:
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) and "repeats" in metrics else None


def write_overview(run: Path) -> Path:
    """Rebuild `run/report.html` from `run/metrics.json`; InputError where that is not of several repeats."""
    metrics = _read_repeats(run)
    if metrics is None:
        raise InputError(f"{run} has no metrics.json of several repeats: an overview is made from it; train again.")
    return write_page(run / "report.html", "overview.html.j2", page_words(run.resolve().name, metrics))


def page_words(name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the template of the page is filled with."""
    return {
        "name": name,
        "headline": headline(metrics),
        "comparison": comparison(metrics["repeats"]),
        "facts": facts(metrics),
        "scorers": scorer_rows(metrics),
        "repeats": [repeat_row(repeat) for repeat in metrics["repeats"]],
        "metric_names": METRICS,
        "notes": [note for note in (label_leak(metrics), *metrics["notes"]) if note],
        "collapsed": metrics["collapse_reason"] if metrics["collapsed"] else "",
        "shared": any("fold" in repeat for repeat in metrics["repeats"]),
    }


def headline(metrics: Mapping[str, Any]) -> str:
    """The chief figure with its spread."""
    folds = len({repeat["fold"] for repeat in metrics["repeats"] if "fold" in repeat})
    seeds = len(metrics["seeds"])
    counted = [(folds, "fold")] * (folds > 0) + [(seeds, "seed")] * (seeds > 1 or not folds)
    parts = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in counted]
    return f"AUROC {with_spread(metrics, 'test', 'auroc')} over {' of '.join(parts)}"


def with_spread(metrics: Mapping[str, Any], *keys: str) -> str:
    """A mean figure with its standard deviation."""
    mean, spread = metrics, metrics["spread"]
    for key in keys:
        mean, spread = mean[key], spread[key]
    deviation = finite(spread["standard_deviation"]) if spread else None
    return number(mean) + ("" if deviation is None else f" ± {deviation:.3f}")


def comparison(repeats: Sequence[Mapping[str, Any]]) -> str:
    """In how many repeats the network is ahead of the best expression baseline of that repeat."""
    parts = []
    for metric, words in METRICS.items():
        known = [(finite(repeat["test"].get(metric)), best_baseline(repeat, metric)[1]) for repeat in repeats]
        decided = [network > rival for network, rival in known if network is not None and rival is not None]
        if decided:
            parts.append(f"in {sum(decided)} of {len(decided)} on {words if words.isupper() else words.lower()}")
    if not parts:
        return "It cannot be compared with the expression baselines: the scores are not defined on these pairs."
    return "The network is ahead of the best expression baseline of the same repeat " + ", ".join(parts) + "."


def best_baseline(repeat: Mapping[str, Any], metric: str) -> tuple[str, float | None]:
    """Name and figure of the best scorer of the audit that uses expression; an empty name where none is defined."""
    scored = {name: finite(repeat["audit"].get(name, {}).get(metric)) for name in EXPRESSION_BASELINES}
    defined = {name: value for name, value in scored.items() if value is not None}
    if not defined:
        return "", None
    best = max(defined, key=lambda name: defined[name])
    return best, defined[best]


def facts(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run, as short terms and values."""
    store = metrics["store"]
    return [
        ("repeats", str(len(metrics["repeats"]))),
        ("seeds", ", ".join(map(str, metrics["seeds"]))),
        ("test pairs of a repeat", whole(metrics["n_test"])),
        ("positive", percent(metrics["prevalence"])),
        ("split", f"{metrics['split']}: {split_words(metrics['split'])}"),
        ("pairs in the store", whole(store.get("n_pairs"))),
        ("cells", whole(store.get("n_cells"))),
    ]


def scorer_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The network and the audit's scorers, best mean average precision first; each figure with a dot a repeat."""
    rows = [_scorer_row(metrics, name) for name in ("score", *metrics["audit"])]
    return sorted(rows, key=lambda row: -row["rank"])


def _scorer_row(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    path = ("test",) if name == "score" else ("audit", name)
    mean = metrics["test"] if name == "score" else metrics["audit"][name]
    look = _look(name)
    precision = finite(mean.get("average_precision"))
    return {
        "name": look.name[0].upper() + look.name[1:],
        "words": look.words,
        "is_network": name == "score",
        "colour": "var(--ink)" if name == "score" else look.colour,
        "rank": -1.0 if precision is None else precision,
        "figures": [_figure(metrics, path, metric) for metric in METRICS if metric in mean],
    }


def _look(name: str) -> ScorerLook:
    return SCORERS.get(name) or ScorerLook(name.replace("_", " "), "var(--muted)", "-", "")


def _figure(metrics: Mapping[str, Any], path: tuple[str, ...], metric: str) -> dict[str, Any]:
    """A mean with its spread, and where each repeat's dot lies, in per cent of the strip from chance to 1."""
    values = [_at(repeat, (*path, metric)) for repeat in metrics["repeats"]]
    low = CHANCE[metric]
    dots = [100 * min(max((value - low) / (1 - low), 0.0), 1.0) for value in values if value is not None]
    each = ", ".join(number(value) for value in values)
    return {"text": with_spread(metrics, *path, metric), "dots": dots, "each": each}


def _at(table: Any, path: Sequence[str]) -> float | None:
    for key in path:
        table = (table or {}).get(key)
    return finite(table)


def repeat_row(repeat: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the table of repeats."""
    name, value = best_baseline(repeat, "average_precision")
    return {
        "name": repeat["name"],
        "n_test": whole(repeat["n_test"]),
        "positive": percent(repeat["prevalence"]),
        "figures": [number(repeat["test"].get(metric)) for metric in METRICS],
        "rival": f"{number(value)} {_look(name).name}" if name else "–",
        "labels_only": number(repeat["audit"].get("labels_only", {}).get("auroc")),
        "collapsed": repeat["collapsed"],
    }
