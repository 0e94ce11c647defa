"""The report of one trained run: the files of its folder in, `report.html` out, with every picture inside.

Words and tables are made here, the page by `templates/report.html.j2`; `card` and `overview` use the same words.
"""

import json
import tomllib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pairscape.model.evaluation.shift import shift_words
from pairscape.model.reports import figures, heatmap_figures
from pairscape.model.reports.depth import depth_null_words
from pairscape.model.reports.page import finite, number, percent, probability, rate, signed, times, whole, write_page
from pairscape.pipeline.errors import InputError

PAIRS_PER_GROUP = 6
EXPRESSION_BASELINES = tuple(name for name in figures.SCORERS if not name.startswith(("score", "labels_only")))
# what the decoders of the five formats raise; JSON, TOML, CSV and Parquet errors are kinds of ValueError
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)

REQUIRED_COLUMNS = {
    "history.csv": (
        "epoch", "train_loss", "validation_loss", "validation_balanced_accuracy", "validation_auroc",
        "validation_average_precision",
    ),
    "predictions.parquet": ("gene_a", "gene_b", "label", "score"),
    "examples.npz": (
        "images", "gene_a", "gene_b", "label", "score", "group", "mean_positive", "mean_negative",
        "mean_residual_positive", "mean_residual_negative",
    ),
    "metrics.json": ("split", "prevalence", "n_test", "test", "audit", "collapsed"),
}  # fmt: skip

SPLIT_WORDS = {
    "pair": "test pairs were not trained on, but their genes may have been",
    "regulator": "no regulator of a test pair was trained on",
    "target": "no target of a test pair was trained on",
    "both": "neither gene of a test pair was trained on",
    "dataset": "the test pairs come from data sets that were not trained on",
}

# group of examples.npz: heading, truth
GROUPS = {
    "true positive": ("Found", "positive"),
    "false negative": ("Missed", "positive"),
    "false positive": ("False alarms", "not positive"),
    "true negative": ("Rightly left out", "not positive"),
}


@dataclass(frozen=True)
class RunRecord:
    """The files of a run folder, read."""

    name: str
    metrics: dict[str, Any]
    history: pd.DataFrame
    predictions: pd.DataFrame
    examples: dict[str, NDArray[Any]]
    config_text: str
    config: dict[str, Any]

    @property
    def label(self) -> NDArray[np.int8]:
        """(n) 1 = positive of any class, 0 = not."""
        return (self.predictions["label"].to_numpy() > 0).astype(np.int8)

    def scores(self) -> dict[str, NDArray[np.float32]]:
        """Scores (n,) of the network and of the audit by column."""
        return {name: self.predictions[name].to_numpy() for name in figures.SCORERS if name in self.predictions}


def write_report(run: Path) -> Path:
    """Rebuild `run/report.html` from the files of the run folder; returns its path.

    Raises
    ------
    InputError
        The folder or one of its files is missing, cannot be read, or lacks a column or key.
    """
    return write_page(run / "report.html", "report.html.j2", page_words(read_run(run)))


# ---------------------------------------------------------------- reading the run folder


def read_run(run: Path) -> RunRecord:
    """Read and check the five files of a run; raises like `write_report`."""
    if not run.is_dir():
        raise InputError(f"{run} is not a folder: a report is made from a run; pass the folder that training wrote.")
    predictions = _read(run, "predictions.parquet", pd.read_parquet)
    config_text, config = _read(run, "config.toml", _read_config)
    return RunRecord(
        name=run.resolve().name,
        metrics=_read(run, "metrics.json", lambda path: json.loads(path.read_text(encoding="utf-8"))),
        history=_read(run, "history.csv", pd.read_csv),
        predictions=predictions[predictions["label"] >= 0],
        examples=_read(run, "examples.npz", _read_arrays),
        config_text=config_text,
        config=config,
    )


def _read_config(path: Path) -> tuple[str, dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    return text, tomllib.loads(text)


def _read(run: Path, name: str, reader: Any) -> Any:
    """One file of the run, with its columns or keys checked."""
    path = run / name
    if not path.is_file():
        raise InputError(f"{path} is missing: the report is drawn from it; run `pairscape train` again to write it.")
    try:
        content = reader(path)
    except UNREADABLE as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path} cannot be read ({reason}): it is damaged; run `pairscape train` again.") from error
    if absent := [column for column in REQUIRED_COLUMNS.get(name, ()) if column not in content]:
        raise InputError(f"{path} lacks {', '.join(absent)}: the report needs it; run `pairscape train` again.")
    return content


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


# ---------------------------------------------------------------- the page


def page_words(record: RunRecord) -> dict[str, Any]:
    """What the template of the page is filled with."""
    metrics = record.metrics
    return {
        "name": record.name,
        "verdict": verdict(metrics),
        "comparison": comparison(metrics),
        "warning": label_leak(metrics),
        "facts": facts(record),
        "cards": metric_cards(metrics),
        "interval_words": interval_words(metrics),
        "audit": audit_rows(metrics, record.config),
        "depth_null": depth_null_words(metrics.get("depth_null")),
        "pictures": draw_pictures(record),
        "groups": example_groups(record.examples),
        "confusion": confusion_table(metrics.get("confusion")),
        "threshold": metrics["threshold"],
        "operating_points": metrics["operating_points"],
        "calibration": calibration_words(metrics["calibration"]),
        "direction": direction_words(metrics.get("direction")),
        "kinds": kind_words(metrics.get("kinds")),
        "stores": store_rows(metrics.get("stores")),
        "shift": shift_words(metrics.get("shift")),
        "details": detail_tables(record),
        "config_text": record.config_text,
    }


def draw_pictures(record: RunRecord) -> dict[str, str]:
    """Name of each picture → its data address."""
    label, scores, examples = record.label, record.scores(), record.examples
    best_epoch, as_trained = record.metrics.get("best_epoch"), record.metrics["calibration"]["as_trained"]["curve"]
    drawn = {
        "roc": figures.roc_figure(label, scores),
        "precision_recall": figures.precision_recall_figure(label, scores),
        "mean_density": heatmap_figures.mean_density_figure(examples["mean_positive"], examples["mean_negative"]),
        "mean_residual": heatmap_figures.mean_residual_figure(
            examples["mean_residual_positive"], examples["mean_residual_negative"]
        ),
        "loss": figures.loss_figure(record.history, best_epoch),
        "validation": figures.validation_figure(record.history, best_epoch),
        "reliability": figures.reliability_figure(label, scores["score"], as_trained),
        "histogram": figures.score_histogram_figure(label, scores["score"], finite(record.metrics.get("threshold"))),
    }
    if len(examples["images"]):
        drawn["count_key"] = heatmap_figures.count_key_figure(int(examples["images"][0].sum()))
    return {name: figures.data_address(figure) for name, figure in drawn.items()}


def example_groups(examples: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """The chosen pairs in four groups, in the order of a confusion matrix, at most six heatmaps each."""
    groups = []
    for group, (heading, truth) in GROUPS.items():
        members = np.flatnonzero(examples["group"] == group)[:PAIRS_PER_GROUP]
        pairs = [example_pair(examples, i) for i in members]
        groups.append({"name": group, "heading": heading, "truth": truth, "pairs": pairs})
    return groups


def example_pair(examples: Mapping[str, NDArray[Any]], i: int) -> dict[str, Any]:
    """One heatmap with its names and score."""
    gene_a, gene_b = str(examples["gene_a"][i]), str(examples["gene_b"][i])
    svg = heatmap_figures.heatmap_svg(examples["images"][i], gene_a, gene_b)
    score = probability(examples["score"][i])
    return {"gene_a": gene_a, "gene_b": gene_b, "score": score, "picture": figures.data_address(svg)}


# ---------------------------------------------------------------- the verdict in words


def verdict(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The headline, its tone (`good`, `fair`, `poor`, `unknown` or `collapsed`) and one sentence with the numbers."""
    test = metrics["test"]
    balanced, auroc = finite(test.get("balanced_accuracy")), finite(test.get("auroc"))
    numbers = (
        f"Balanced accuracy {number(balanced)}, AUROC {number(auroc)}, average precision "
        f"{number(test.get('average_precision'))} against a prevalence of {rate(metrics['prevalence'])}."
    )
    if metrics["collapsed"]:
        tone, headline = "collapsed", "The network collapsed"
    elif balanced is None or auroc is None:
        tone, headline = "unknown", "The network cannot be judged on these pairs"
    elif balanced >= 0.75 and auroc >= 0.8:
        tone, headline = _beside_baseline(metrics.get("against_baseline", {}))
    elif auroc >= 0.6:
        tone, headline = "fair", "The network has learned a part of it"
    else:
        tone, headline = "poor", "The network is close to chance"
    return {"tone": tone, "headline": headline, "numbers": numbers, "reason": str(metrics.get("collapse_reason") or "")}


def _beside_baseline(recorded: Mapping[str, Any]) -> tuple[str, str]:
    """Tone and headline of a network that has learned: what it adds to the best classical score of expression."""
    standings = {recorded[key]["standing"] for key in FIGURE_WORDS if recorded.get(key)}
    if not standings:
        return "good", "The network works"
    rival = figures.SCORERS[recorded["baseline"]].name
    if standings == {"ahead"}:
        return "good", f"The network works, and is better than {rival}"
    if standings == {"behind"}:
        return "fair", f"Not as good as {rival}"
    if standings == {"level"}:
        return "fair", f"As good as {rival}, not shown to be better"
    return "fair", f"Better than {rival} by one measure" if "ahead" in standings else f"Not better than {rival}"


FIGURE_WORDS = {"average_precision": "average precision", "auroc": "AUROC"}


def comparison(metrics: Mapping[str, Any]) -> str:
    """Whether the network beats the best scorer that uses expression, by average precision and by AUROC."""
    recorded = metrics["against_baseline"]
    entries = {key: recorded[key] for key in FIGURE_WORDS if recorded[key]}
    if not entries:
        return "It cannot be compared with the expression baselines: the scores are not defined on these pairs."
    standings = {entry["standing"] for entry in entries.values()}
    if standings == {"ahead"}:
        head = "The network beats the best expression baseline on the same pairs"
    elif "ahead" in standings:
        head = "The network beats the best expression baseline on the same pairs by one measure only"
    elif standings == {"behind"}:
        head = "The network does not reach the best expression baseline on the same pairs"
    else:
        head = "It is not shown that the network beats the best expression baseline on the same pairs"
    return f"{head}: it is " + " and ".join(_compared(key, entry) for key, entry in entries.items()) + "."


def _compared(key: str, entry: Mapping[str, Any]) -> str:
    low, high = finite(entry["low"]), finite(entry["high"])
    within = "" if low is None or high is None else f", 95 % interval {signed(low)} to {signed(high)}"
    return (
        f"{entry['standing']} on {FIGURE_WORDS[key]} ({number(entry['network'])} against {number(entry['value'])} for "
        f"{figures.SCORERS[entry['baseline']].name}; difference {signed(entry['difference'])}{within})"
    )


def interval_words(metrics: Mapping[str, Any]) -> str:
    """What is called level, and how the intervals came about; empty where none are defined."""
    recorded = metrics["against_baseline"]
    entries = {words: recorded[key] for key, words in FIGURE_WORDS.items() if recorded[key]}
    if not entries:
        return ""
    by_pairs = "; ".join(
        f"{signed(entry['low_by_pairs'])} to {signed(entry['high_by_pairs'])} on {words}"
        for words, entry in entries.items()
        if entry["low_by_pairs"] is not None
    )
    rather = f" Resampling pairs as if they were independent would promise more: {by_pairs}." if by_pairs else ""
    return (
        "The network is called level where the interval of the difference holds 0. The interval is a paired bootstrap "
        f"of {whole(recorded['resamples'])} resamples of the test genes, since pairs that share a gene are not "
        f"independent; it is rather too wide than too narrow.{rather}"
    )


def label_leak(metrics: Mapping[str, Any]) -> str:
    """A warning when the training labels alone predict the test labels; else empty."""
    labels_only = finite(metrics["audit"].get("labels_only", {}).get("auroc"))
    if labels_only is None or labels_only < 0.6:
        return ""
    return (
        f"The labels give themselves away: how often a gene is positive in the training labels reaches AUROC "
        f"{number(labels_only)} without any expression. A part of the network's score may be gene identity; "
        "the split “both”, in which no test gene was trained on, is the one to quote."
    )


def facts(record: RunRecord) -> list[tuple[str, str]]:
    """What was run, as short terms and values."""
    metrics, store = record.metrics, record.metrics.get("store") or {}
    genes = pd.concat([record.predictions["gene_a"], record.predictions["gene_b"]]).nunique()
    network = setting(record.config, "network")
    known = [
        ("cells", whole(store.get("n_cells"))),
        ("pairs in the store", whole(store.get("n_pairs"))),
        ("test pairs", f"{whole(metrics['n_test'])} among {genes:,} genes"),
        ("positive", percent(metrics["prevalence"])),
        ("split", str(metrics["split"])),
        ("network", str(network) if network else "–"),
        ("heatmaps", f"{store['bins']} × {store['bins']} bins, {store.get('scale', '–')}" if "bins" in store else "–"),
    ]
    return [(term, value) for term, value in known if value != "–"]


def metric_cards(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """The test metrics that the run recorded, each with a line on how to read it."""
    test, prevalence = metrics["test"], finite(metrics["prevalence"])
    precision = finite(test.get("average_precision"))
    lift = f"{precision / prevalence:.3g} times the prevalence" if precision is not None and prevalence else ""
    positives = round((prevalence or 0.0) * metrics["n_test"])
    few, fewer = (f", of {positives} in all" if 0 < positives < k else "" for k in (100, 1000))
    rows = [
        ("Balanced accuracy", "balanced_accuracy", "mean recall of the classes; 0.5 is chance"),
        ("AUROC", "auroc", "how often a positive ranks above a negative"),
        ("Average precision", "average_precision", lift or "chance is the prevalence"),
        ("Precision at 10", "precision_at_10", f"share of positives among the 10 best{few}"),
        ("Precision at 100", "precision_at_100", f"share of positives among the 100 best{few}"),
        ("Precision at 1,000", "precision_at_1000", f"share of positives among the 1,000 best{fewer}"),
        (
            "Early precision ratio",
            "early_precision_ratio",
            "precision over chance where as many are called as are positive",
        ),
        ("MCC", "mcc", "correlation of call and truth; 0 is chance"),
        ("Brier score", "brier", "squared error of the probability; 0 is best"),
        ("Brier skill", "brier_skill", "1 is perfect; 0 is to answer the prevalence"),
        ("Calibration error", "ece", "mean gap of probability and truth in 15 bins of equal mass"),
    ]
    shown = {key: times(value) if key.endswith("_ratio") else number(value) for key, value in test.items()}
    return [{"name": name, "value": shown[key], "words": words} for name, key, words in rows if key in shown]


def audit_rows(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The network and the audit's scorers on the same pairs, best average precision first."""
    scored = {"score": metrics["test"], **metrics["audit"]}
    known = [name for name in figures.SCORERS if scored.get(name)]
    rows = [audit_row(name, scored[name], scorer_words(name, metrics, config)) for name in known]
    return sorted(rows, key=lambda row: (-row["rank"][0], -row["rank"][1]))


def audit_row(scorer: str, values: Mapping[str, Any], words: str) -> dict[str, Any]:
    """One line of the audit table; a bar's width is per cent of its cell."""
    precision, auroc = finite(values.get("average_precision")), finite(values.get("auroc"))
    look = figures.SCORERS[scorer]
    return {
        "name": look.name[0].upper() + look.name[1:],
        "is_network": scorer == "score",
        "colour": "var(--ink)" if scorer == "score" else look.colour,
        "words": words,
        "rank": (-1.0 if precision is None else precision, -1.0 if auroc is None else auroc),
        "average_precision": number(precision),
        "precision_bar": 100 * (precision or 0.0),
        "auroc": number(auroc),
        "auroc_bar": 200 * max((auroc or 0.5) - 0.5, 0.0),
        "balanced_accuracy": number(values.get("balanced_accuracy")),
        "early_precision_ratio": times(values.get("early_precision_ratio")),
    }


def scorer_words(scorer: str, metrics: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What a scorer uses, and what is special to it in this run."""
    words = figures.SCORERS[scorer].words
    if scorer.startswith("labels_only") and metrics["split"] == "both":
        words += " AUROC 0.5 is expected here, since no test gene has a training label."
    if scorer == "spearman" and setting(config, "labels") == "replicate":
        words += " Favoured here: in the other half of the cells it defines the label."
    reason = metrics["audit"].get(scorer, {}).get("reason")
    return f"{words} Not computed: {reason.rstrip('.')}." if reason else words


def confusion_table(
    confusion: Sequence[Sequence[int]] | None, kinds: Sequence[str] | None = None
) -> dict[str, Any] | None:
    """Counts and row percentages; two classes, three with directions, or these kinds."""
    if not confusion:
        return None
    names = kinds or (("negative", "positive") if len(confusion) == 2 else ("none", "a → b", "b → a"))
    rows = []
    for name, counts in zip(names, confusion, strict=True):
        total = sum(counts)
        shares = [100 * count / total if total else 0.0 for count in counts]
        cells = [
            {"count": f"{count:,}", "share": f"{share:.1f} %", "strength": round(share), "right": truth == name}
            for truth, count, share in zip(names, counts, shares, strict=True)
        ]
        rows.append({"name": name, "total": f"{total:,}", "cells": cells})
    return {"names": names, "rows": rows, "words": calls_in_words(confusion) if len(confusion) == 2 else []}


def calls_in_words(confusion: Sequence[Sequence[int]]) -> list[str]:
    """Precision and recall of the calls, as sentences."""
    (_, false_positive), (false_negative, true_positive) = confusion
    called, positive = true_positive + false_positive, true_positive + false_negative
    words = [f"{called:,} pairs are called positive." if called else "No pair is called positive."]
    if called:
        words.append(f"{true_positive:,} of them are: a precision of {number(true_positive / called)}.")
    if positive:
        words.append(
            f"{true_positive:,} of {positive:,} positive pairs are found: a recall of "
            f"{number(true_positive / positive)}."
        )
    return words


def calibration_words(recorded: Mapping[str, Any]) -> str:
    """What the correction of the prior changed."""
    before, after = (number(recorded[name]["ece"]) for name in ("as_trained", "prior_corrected"))
    return (
        f"Training showed {percent(recorded['shown'])} positives, {percent(recorded['natural'])} are natural. What "
        "this, class weights and the focal loss do to the probabilities is taken back in closed form. "
        f"The calibration error went from {before} to {after}."
    )


def direction_words(direction: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Direction among the true edges, beside what labels and marginals alone give; None for two classes."""
    if not direction:
        return None
    scorers = {"CNN": direction} | {figures.SCORERS[name].name: row for name, row in direction["audit"].items()}
    return {**direction, "scorers": scorers, "confusion": confusion_table(direction["confusion"])}


def kind_words(kinds: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How well each kind of dependence is found, and how often it is named; None where the labels are no kinds."""
    if not kinds:
        return None
    rows = [
        {"name": name, "pairs": f"{n:,}", "auroc": number(kinds["auroc"][name])}
        for name, n in zip(kinds["names"][1:], kinds["n"][1:], strict=True)
    ]
    named = percent(kinds["named_right"]) if kinds["named_right"] is not None else "–"
    return {"rows": rows, "named_right": named, "confusion": confusion_table(kinds["confusion"], kinds["names"])}


def detail_tables(record: RunRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything else that was recorded, as tables of term and value."""
    metrics = record.metrics
    pairs = {key: whole(metrics.get(f"n_{key}")) for key in ("train", "validation", "test")}
    seconds = {name: f"{value:,.1f} s" for name, value in (metrics.get("seconds") or {}).items()}
    tables = [
        ("Pairs", pairs),
        ("Time", seconds),
        ("Versions", metrics.get("versions") or {}),
        ("Image store", _scalars(metrics.get("store") or {})),
        ("Run", {"seed": metrics.get("seed", "–"), "split": f"{metrics['split']}: {split_words(metrics['split'])}"}),
    ]
    return [(title, [(str(term), str(value)) for term, value in rows.items()]) for title, rows in tables if rows]


def _scalars(table: Mapping[str, Any]) -> dict[str, Any]:
    """What a table says in one value each; of several stores there is a section of its own."""
    return {name: value for name, value in table.items() if not isinstance(value, list)}


def store_rows(stores: Sequence[Mapping[str, Any]] | None) -> list[dict[str, str]]:
    """A row for each store that was tested: the network beside Spearman, and the best of the rivals by AUROC."""
    return [_store_row(store) for store in stores or ()]


def _store_row(store: Mapping[str, Any]) -> dict[str, str]:
    test, audit = store["test"], store["audit"]
    known = {name: finite(row.get("auroc")) for name, row in audit.items() if name in figures.SCORERS}
    best = max(known, key=lambda name: known[name] or 0.0, default="")
    return {
        "name": store["path"].rstrip("/"),
        "cells": whole(store["n_cells"]),
        "pairs": whole(store["n_test"]),
        "prevalence": percent(store["prevalence"]),
        "auroc": number(test["auroc"]),
        "average_precision": number(test["average_precision"]),
        "spearman": number(audit.get("spearman", {}).get("auroc")),
        "best": f"{figures.SCORERS[best].name}, {number(known[best])}" if best else "–",
    }


def split_words(split: str) -> str:
    """The meaning of a split."""
    return SPLIT_WORDS.get(split, "a split of the user's own")


def setting(config: Mapping[str, Any], name: str) -> Any:
    """A setting of config.toml, at the top or in any table; None when absent."""
    if name in config and not isinstance(config[name], dict):
        return config[name]
    inner = (setting(table, name) for table in config.values() if isinstance(table, dict))
    return next((value for value in inner if value is not None), None)
