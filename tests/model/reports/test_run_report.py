"""The report is one file that says what happened, in words and pictures, whatever happened."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    matthews_corrcoef,
    roc_auc_score,
)

from pairscape.model.evaluation.bootstrap import against_baseline
from pairscape.model.evaluation.metrics import calibration_record, calibration_scores, direction_scores
from pairscape.model.reports import figures, heatmap_figures
from pairscape.model.reports.page import number, times
from pairscape.model.reports.run_report import comparison, confusion_table, label_leak, verdict, write_report
from pairscape.pipeline.errors import InputError
from reference import prior_corrected

ROOT = Path(__file__).parents[3]
BINS, CELLS, GENES, MODULES = 32, 600, 120, 6
AUDIT = ("labels_only", "marginals_only", "pearson", "spearman", "mutual_information")

NOT_SHOWN = ("log_loss", "average_precision_ratio")  # the second stands under the average precision

CONFIG = """\
seed = 0
labels = "replicate"

[train]
network = "pairnet"
split = "both"
learning_rate = 0.003
sigma = 0.5
channels = "log+residual"
"""


# ---------------------------------------------------------------- a simulated run


def simulated_expression(rng: np.random.Generator) -> NDArray[np.float64]:
    """(cell, gene) log expression: half of the genes follow one of six hidden programmes, the others nothing."""
    programmes = rng.normal(size=(CELLS, MODULES)) + 1.5 * np.eye(MODULES)[rng.integers(MODULES, size=CELLS)]
    follows = np.zeros((MODULES, GENES))
    follows[rng.integers(MODULES, size=GENES // 2), np.arange(GENES // 2)] = rng.uniform(0.2, 1.0, GENES // 2)
    rate = np.exp(rng.normal(-0.6, 1.1, GENES) + programmes @ follows)
    counts = rng.poisson(rate * rng.lognormal(0, 0.25, (CELLS, 1)))
    return np.asarray(np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)))


def joint_counts(codes: NDArray[np.int64], a: int, b: int) -> NDArray[np.uint32]:
    """(K, K) counts, row = bin of b."""
    return np.bincount(codes[:, b] * BINS + codes[:, a], minlength=BINS**2).reshape(BINS, BINS).astype(np.uint32)


def residual(image: NDArray[Any]) -> NDArray[np.float64]:
    expected = image.sum(axis=1, keepdims=True) * image.sum(axis=0, keepdims=True) / image.sum()
    return np.asarray((image - expected) / np.sqrt(expected + 0.25))


def simulated_predictions(expression: NDArray[np.float64], rng: np.random.Generator) -> pd.DataFrame:
    """Every pair with a label from |rho|, a network that sees it through noise, and the audit's scores."""
    a, b = np.triu_indices(GENES, 1)
    ranks = pd.DataFrame(expression).rank().to_numpy()
    spearman = np.abs(np.corrcoef(ranks.T))[a, b]
    mean = expression.mean(axis=0)
    label = (spearman + rng.normal(0, 0.02, a.size) >= 0.3).astype(np.int8)
    symbols = np.array([f"GENE{i}" for i in range(GENES)])
    return pd.DataFrame(
        {
            "gene_a": symbols[a],
            "gene_b": symbols[b],
            "label": label,
            "score": (1 / (1 + np.exp(-24 * (spearman - 0.32 + rng.normal(0, 0.055, a.size))))).astype(np.float32),
            "fold": 0,
            "labels_only": np.float32(0.5),
            "marginals_only": (mean[a] + mean[b]).astype(np.float32),
            "pearson": (np.abs(np.corrcoef(expression.T))[a, b] + rng.normal(0, 0.07, a.size)).astype(np.float32),
            "spearman": (spearman + rng.normal(0, 0.06, a.size)).astype(np.float32),
            "mutual_information": (spearman**2 + rng.normal(0, 0.05, a.size)).astype(np.float32),
        }
    )


def simulated_examples(predictions: pd.DataFrame, codes: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Six chosen pairs of each group and the mean image of each class."""
    label, score = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    a, b = np.triu_indices(GENES, 1)
    best_first = np.argsort(-score)
    groups = {
        "true positive": best_first[label[best_first] == 1][:6],
        "true negative": best_first[label[best_first] == 0][::-40][:6],
        "false positive": best_first[label[best_first] == 0][:6],
        "false negative": best_first[label[best_first] == 1][::-1][:6],
    }
    chosen = np.concatenate(list(groups.values()))
    of_class = {name: np.flatnonzero(label == value)[:150] for value, name in ((1, "positive"), (0, "negative"))}
    means: dict[str, NDArray[Any]] = {}
    for name, rows in of_class.items():
        images = [joint_counts(codes, a[i], b[i]) for i in rows]
        means[f"mean_{name}"] = np.mean(images, axis=0) / CELLS
        means[f"mean_residual_{name}"] = np.mean([residual(image) for image in images], axis=0)
    return {
        "images": np.stack([joint_counts(codes, a[i], b[i]) for i in chosen]),
        "gene_a": predictions["gene_a"].to_numpy(dtype=str)[chosen],
        "gene_b": predictions["gene_b"].to_numpy(dtype=str)[chosen],
        "label": label[chosen],
        "score": score[chosen],
        "group": np.repeat(list(groups), [len(rows) for rows in groups.values()]),
        **means,
    }


def simulated_history(epochs: int = 24) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    learned = 1 - np.exp(-epoch / 5)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "learning_rate": 0.003 * np.sin(np.pi * epoch / (epochs + 1)),
            "train_loss": 0.69 - 0.6 * learned,
            "validation_loss": 0.69 - 0.52 * learned + 0.02 * np.cos(2.1 * epoch),
            "validation_balanced_accuracy": 0.5 + 0.46 * learned - 0.015 * np.cos(1.7 * epoch) * learned,
            "validation_auroc": 0.5 + 0.49 * learned,
            "validation_average_precision": 0.02 + 0.87 * learned**2 - 0.02 * np.cos(1.7 * epoch) * learned,
            "seconds": 2.4,
        }
    )


def scored(label: NDArray[Any], score: NDArray[Any], threshold: float) -> dict[str, float]:
    return {
        "balanced_accuracy": float(balanced_accuracy_score(label, score >= threshold)),
        "auroc": float(roc_auc_score(label, score)),
        "average_precision": float(average_precision_score(label, score)),
    }


def simulated_metrics(predictions: pd.DataFrame) -> dict[str, Any]:
    label, score = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    thresholds = {name: float(np.quantile(predictions[name], 1 - label.mean())) for name in AUDIT}
    return {
        "split": "both",
        "prevalence": float(label.mean()),
        "n_test": len(label),
        "n_train": 101_250,
        "n_validation": 10_440,
        "test": scored(label, score, 0.3)
        | {
            "mcc": float(matthews_corrcoef(label, score >= 0.3)),
            "precision_at_100": float(label[np.argsort(-score)[:100]].mean()),
            **calibration_scores(label, score),
            "precision_at_10": 1.0,
            "precision_at_1000": 0.25,
            "early_precision_ratio": 21.5,
            "average_precision_ratio": 22.5,
        },
        "audit": {name: scored(label, predictions[name].to_numpy(), thresholds[name]) for name in AUDIT},
        "against_baseline": against_baseline(
            label,
            score,
            {name: predictions[name].to_numpy() for name in AUDIT[1:]},
            np.triu_indices(GENES, 1),
            seed=0,
            resamples=40,
        ),
        "calibration": {"shown": 0.1, "natural": float(label.mean())}
        | calibration_record(label, prior_corrected(score, label.mean(), 0.1), score),
        "operating_points": [
            {"aim": "balanced accuracy", "threshold": 0.3, "called": 1234, "precision": 0.61, "recall": 0.87},
            {"aim": "precision 0.9", "threshold": None, "called": None, "precision": None, "recall": None},
        ],
        "collapsed": False,
        "collapse_reason": "",
        "threshold": 0.3,
        "confusion": confusion_matrix(label, score >= 0.3).tolist(),
        "seed": 0,
        "seconds": {"train": 58.2, "evaluate": 3.1},
        "versions": {"pairscape": "1.0.0", "torch": "2.13.0"},
        "store": {
            "plan_hash": "5f2c9a",
            "path": "demo/images.zarr",
            "n_pairs": 118_830,
            "n_cells": CELLS,
            "bins": BINS,
            "scale": "rank",
        },
    }


def write_run(run: Path) -> Path:
    """A run folder as training leaves it, of simulated cells."""
    rng = np.random.default_rng(4)
    expression = simulated_expression(rng)
    highest = expression.max(axis=0)
    codes = np.minimum((expression / np.where(highest > 0, highest, 1) * BINS).astype(np.int64), BINS - 1)
    predictions = simulated_predictions(expression, rng)
    run.mkdir(parents=True)
    predictions.to_parquet(run / "predictions.parquet")
    examples: dict[str, Any] = simulated_examples(predictions, codes)
    np.savez_compressed(run / "examples.npz", **examples)
    simulated_history().to_csv(run / "history.csv", index=False)
    (run / "metrics.json").write_text(json.dumps(simulated_metrics(predictions)))
    (run / "config.toml").write_text(CONFIG)
    return run


# ---------------------------------------------------------------- the tests


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, with a single example of each group, that a test may change."""
    copied = Path(shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("report.html")))
    with np.load(finished_run / "examples.npz") as archive:
        one_each = {name: archive[name][::6] for name in ("images", "gene_a", "gene_b", "label", "score", "group")}
    change_examples(copied, **one_each)
    return copied


@pytest.fixture(scope="session")
def page(finished_run: Path) -> str:
    return write_report(finished_run).read_text(encoding="utf-8")


def change_metrics(run: Path, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    change(metrics)
    (run / "metrics.json").write_text(json.dumps(metrics))
    return metrics


def change_predictions(run: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(run / "predictions.parquet")).to_parquet(run / "predictions.parquet")


def change_examples(run: Path, **arrays: NDArray[Any]) -> None:
    with np.load(run / "examples.npz") as archive:
        examples = {name: archive[name] for name in archive.files}
    np.savez_compressed(run / "examples.npz", **(examples | arrays))


def report_text(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def pictures(page: str) -> list[str]:
    """The SVG text of every embedded picture."""
    addresses = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    return [base64.b64decode(address).decode() for address in addresses]


def test_report_is_one_self_contained_file(page: str, finished_run: Path) -> None:
    """No script, no style sheet and no picture from elsewhere: in the page and inside its pictures."""
    for text in (page, *pictures(page)):
        addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
        assert all(address.startswith(("data:", "#")) for address in addresses)
        assert not re.search(r"<script|<link|@import|url\((?!#)", text)
    assert len(page) < 3_000_000
    assert not list(finished_run.glob("*.partial"))


def test_report_holds_every_picture_with_a_text_for_those_who_cannot_see_it(page: str) -> None:
    assert len(pictures(page)) == 9 + 24
    assert all(len(alt) > 20 for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page))
    assert page.count("<img ") == len(re.findall(r'<img [^>]*alt="', page))


def test_report_holds_the_numbers_of_metrics_json(page: str, finished_run: Path) -> None:
    metrics = json.loads((finished_run / "metrics.json").read_text())
    for scores in (metrics["test"], *metrics["audit"].values()):
        shown = {key: times(value) if key.endswith("ratio") else number(value) for key, value in scores.items()}
        assert [key for key, words in shown.items() if words not in page and key not in NOT_SHOWN] == []
    for count in np.ravel(metrics["confusion"]):
        assert f"<b>{count:,}</b>" in page
    assert "5f2c9a" in page
    assert "learning_rate = 0.003" in page
    assert page.count('class="network"') == 1


@pytest.mark.parametrize("count", [2, 7, len(figures.SCORERS)])
def test_a_legend_of_any_number_of_scorers_is_whole(count: int) -> None:
    label, score = np.array([0, 1, 0, 1]), np.array([0.1, 0.6, 0.3, 0.8])
    scores = dict.fromkeys(list(figures.SCORERS)[:count], score)
    for draw in (figures.roc_figure, figures.precision_recall_figure):
        figure = draw(label, scores)
        FigureCanvasAgg(figure).draw()
        assert figure.legends[0].get_window_extent().y0 >= 0
        inches = figure.axes[0].get_position().height * figure.get_figheight()
        assert inches == pytest.approx(5.2 - 0.96 - 0.3)


def test_same_figure_gives_the_same_bytes() -> None:
    """Neither a date nor a random identifier, so that a rebuilt report differs only where the run does."""
    label, score = np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.5, 0.9])
    first, second = (figures.svg_text(figures.roc_figure(label, {"score": score})) for _ in range(2))
    assert first == second


def test_gene_names_are_escaped_and_never_read_as_mathematics(run: Path) -> None:
    names = np.array(["<b>A&B</b>", "$x_1$", '"q"', "HLA-DRA"])
    change_examples(run, gene_a=names)
    page = report_text(run)
    assert "<b>A&B" not in page
    assert "&lt;b&gt;A&amp;B&lt;/b&gt;" in page
    drawn = "".join(pictures(page))
    assert "&lt;b&gt;A&amp;B&lt;/b&gt;" in drawn
    assert "$x_1$" in drawn


def test_collapse_is_shouted(run: Path) -> None:
    reason = "the scores of all pairs lie within 1e-6 <of> each other"
    change_metrics(run, lambda metrics: metrics.update(collapsed=True, collapse_reason=reason))
    change_predictions(run, lambda predictions: predictions.assign(score=np.float32(0.013)))
    page = report_text(run)
    assert 'role="alert"' in page
    assert "The network collapsed" in page
    assert "within 1e-6 &lt;of&gt; each other" in page
    assert "The network works" not in page


@pytest.mark.parametrize(
    ("standings", "tone", "headline"),
    [
        (("ahead", "ahead"), "good", "The network works, and is better than |Spearman|"),
        (("level", "level"), "fair", "As good as |Spearman|, not shown to be better"),
        (("behind", "behind"), "fair", "Not as good as |Spearman|"),
        (("ahead", "level"), "fair", "Better than |Spearman| by one measure"),
        (("behind", "level"), "fair", "Not better than |Spearman|"),
        ((None, None), "good", "The network works"),
    ],
)
def test_the_headline_says_what_the_network_adds(standings, tone, headline) -> None:
    """A green mark above "not shown to be better" would contradict itself."""
    recorded = {
        key: None if standing is None else {"standing": standing}
        for key, standing in zip(("average_precision", "auroc"), standings, strict=True)
    }
    test = {"balanced_accuracy": 0.9, "auroc": 0.95, "average_precision": 0.7}
    found = verdict({"test": test, "prevalence": 0.1, "collapsed": False,
                     "against_baseline": {"baseline": "spearman", **recorded}})  # fmt: skip
    assert (found["tone"], found["headline"]) == (tone, headline)


def test_healthy_run_has_no_alarm(page: str) -> None:
    assert "The network" in page
    assert 'role="alert"' not in page


def test_undefined_metrics_are_said_to_be_undefined(run: Path) -> None:
    def erase(metrics: dict[str, Any]) -> None:
        metrics["test"] = dict.fromkeys(metrics["test"])
        metrics["audit"] = {name: dict.fromkeys(scores) for name, scores in metrics["audit"].items()}
        metrics.update(prevalence=None, threshold=None, confusion=None, store=None)
        metrics.update(against_baseline=metrics["against_baseline"] | {"auroc": None, "average_precision": None})
        metrics.update(operating_points=[{**dict.fromkeys(metrics["operating_points"][0]), "aim": "precision 0.9"}])

    change_metrics(run, erase)
    page = report_text(run)
    assert "cannot be judged" in page
    assert page.count("not defined") > 20
    assert "not defined<i" not in page  # nor has it a bar
    assert not re.search(r"\b(None|nan|NaN)\b", re.sub(r'"data:[^"]*"', "", page))


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ([0, 0, 0], "every test pair is negative."),
        ([1, 1, 1], "every test pair is positive."),
        ([], "there is no labelled test pair."),
    ],
    ids=["negatives", "positives", "empty"],
)
def test_curves_that_need_both_classes_become_words(label: list[int], words: str) -> None:
    truth, score = np.array(label, dtype=np.int8), np.linspace(0.1, 0.9, len(label))
    drawn = figures.svg_text(figures.roc_figure(truth, {"score": score}))
    assert "The ROC curve is not defined:" in drawn
    assert words in drawn
    assert words in figures.svg_text(figures.precision_recall_figure(truth, {"score": score}))
    figures.svg_text(figures.score_histogram_figure(truth, score))
    assert ("not defined" in figures.svg_text(figures.reliability_figure(truth, score))) is (not label)


def test_unlabelled_pairs_take_no_part(run: Path) -> None:
    change_predictions(run, lambda rows: rows.assign(label=np.int8(-1)))
    assert "there is no labelled test pair." in "".join(pictures(report_text(run)))


def test_three_classes_are_drawn_as_positive_or_not(run: Path) -> None:
    change_predictions(run, lambda rows: rows.assign(label=rows["label"] * (1 + rows.index % 2).astype(np.int8)))
    change_metrics(run, lambda metrics: metrics.update(confusion=[[90, 5, 5], [1, 8, 1], [0, 2, 8]]))
    page = report_text(run)
    assert "b → a" in page
    assert "ROC curve is not defined" not in "".join(pictures(page))


def test_correlation_without_a_value_ranks_last() -> None:
    label = np.array([0, 1, 0, 1])
    figure = figures.roc_figure(label, {"pearson": np.array([np.nan, 0.5, np.nan, 0.4])})
    curve = figure.axes[0].lines[1].get_xydata()
    assert [0.0, 1.0] in np.asarray(curve).tolist()


def test_network_without_a_number_is_still_reported(run: Path) -> None:
    """Training that diverged leaves NaN scores, and a class without pairs a NaN mean image."""
    nothing = np.full((BINS, BINS), np.nan)
    change_predictions(run, lambda rows: rows.assign(score=np.float32("nan")))
    change_examples(run, mean_positive=nothing, mean_residual_positive=nothing, score=np.full(4, np.nan))
    assert "no labelled test pair with a score" in "".join(pictures(report_text(run)))


@pytest.mark.parametrize("epochs", [0, 1])
def test_few_epochs_are_drawn_or_said(epochs: int) -> None:
    history = simulated_history(1).iloc[:epochs]
    for draw in (figures.loss_figure, figures.validation_figure):
        assert ("no epoch was recorded" in figures.svg_text(draw(history, epochs or None))) is (epochs == 0)


def test_empty_group_is_said_to_be_empty(run: Path) -> None:
    change_examples(run, group=np.repeat("true negative", 4))
    assert report_text(run).count("There is none among the test pairs.") == 3


@pytest.mark.parametrize("name", ["metrics.json", "history.csv", "predictions.parquet", "examples.npz", "config.toml"])
def test_missing_or_damaged_file_is_named(run: Path, name: str) -> None:
    (run / name).write_bytes(b'{"\xff')
    with pytest.raises(InputError, match=rf"{re.escape(name)} cannot be read") as damaged:
        write_report(run)
    (run / name).unlink()
    with pytest.raises(InputError, match=rf"{re.escape(name)} is missing") as missing:
        write_report(run)
    assert all("\n" not in str(error.value) for error in (damaged, missing))
    assert not (run / "report.html").exists()


def test_missing_column_and_missing_folder_are_named(run: Path) -> None:
    change_predictions(run, lambda rows: rows.drop(columns="score"))
    with pytest.raises(InputError, match=r"predictions.parquet lacks score"):
        write_report(run)
    with pytest.raises(InputError, match="is not a folder"):
        write_report(run / "elsewhere")


def interval_of(standing: str, low: float, high: float) -> dict[str, Any]:
    values = {"baseline": "spearman", "network": 0.8, "value": 0.75, "difference": 0.05, "standing": standing}
    return values | {"low": low, "high": high, "low_by_pairs": low / 2, "high_by_pairs": high / 2}


WINS, DRAWS, LOSES = (
    interval_of("ahead", 0.02, 0.09),
    interval_of("level", -0.02, 0.09),
    interval_of("behind", -0.2, -0.1),
)


@pytest.mark.parametrize(
    ("auroc", "precision", "words"),
    [
        (WINS, WINS, ["network beats the best", "difference +0.050, 95 % interval +0.020 to +0.090"]),
        (WINS, DRAWS, ["by one measure only", "ahead on AUROC", "level on average precision"]),
        (DRAWS, LOSES, ["not shown that the network beats", "behind on average precision", "−0.200 to −0.100"]),
        (LOSES, LOSES, ["does not reach the best", "for |Spearman|"]),
        (
            WINS | {"standing": "level", "low": None, "high": None},
            DRAWS,
            ["on AUROC (0.800 against 0.750 for |Spearman|; difference +0.050).", "not shown"],
        ),
        (None, None, ["cannot be compared"]),
    ],
    ids=["beats", "one only", "not shown", "behind", "no interval", "undefined"],
)
def test_the_interval_decides_who_is_ahead(
    auroc: dict[str, Any] | None, precision: dict[str, Any] | None, words: list[str]
) -> None:
    recorded = {"auroc": auroc, "average_precision": precision, "resamples": 1000}
    sentence = comparison({"against_baseline": recorded})
    assert [word for word in words if word not in sentence] == []


def test_the_page_says_how_the_interval_came_about(page: str) -> None:
    assert "40 resamples of the test genes" in page
    assert "rather too wide than too narrow" in page
    assert "95 % interval" in page


def test_the_page_shows_calibration_before_and_after(page: str, finished_run: Path) -> None:
    errors = json.loads((finished_run / "metrics.json").read_text())["calibration"]
    assert errors["as_trained"]["ece"] > errors["prior_corrected"]["ece"]
    assert f"from {number(errors['as_trained']['ece'])} to {number(errors['prior_corrected']['ece'])}" in page
    assert "before the correction" in "".join(pictures(page))
    assert "never reached" in page


def test_direction_has_a_section_of_its_own(run: Path) -> None:
    label = np.array([0, 0, 1, 1, 2, 2])
    probability = np.array([[8, 1, 1], [2, 5, 3], [1, 7, 2], [1, 4, 5], [1, 3, 6], [9, 0, 1]]) / 10
    blind = {"labels_only": {"accuracy": 0.5, "auroc": 0.5}, "marginals_only": {"accuracy": 0.625, "auroc": None}}
    change_metrics(
        run, lambda metrics: metrics.update(direction=direction_scores(label, probability, 0.5) | {"audit": blind})
    )
    page = report_text(run)
    assert 'id="direction"' in page
    assert "Among the 4 true edges" in page
    assert "<td>0.750</td>" in page  # three of four directions
    assert "<td>0.625</td>" in page
    assert "called b → a" in page


def test_no_direction_without_three_classes(page: str) -> None:
    assert 'id="direction"' not in page


@pytest.mark.parametrize(
    ("balanced", "auroc", "collapsed", "tone"),
    [
        (0.96, 0.99, False, "good"),
        (0.62, 0.71, False, "fair"),
        (0.50, 0.52, False, "poor"),
        (None, None, False, "unknown"),
        (0.50, 0.50, True, "collapsed"),
    ],
)
def test_verdict_fits_the_numbers(balanced: float | None, auroc: float | None, collapsed: bool, tone: str) -> None:
    test = {"balanced_accuracy": balanced, "auroc": auroc, "average_precision": 0.5}
    assert verdict({"test": test, "prevalence": 0.01, "collapsed": collapsed})["tone"] == tone


@pytest.mark.parametrize(("auroc", "warns"), [(0.9, True), (0.5, False), (None, False)])
def test_labels_that_give_themselves_away_are_pointed_out(auroc: float | None, warns: bool) -> None:
    assert bool(label_leak({"audit": {"labels_only": {"auroc": auroc}}})) is warns


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.9, "0.900"), (1, "1.000"), (0.9997, "0.9997"), (0.99999, "> 0.9999"), (0.00012, "0.00012"), (0, "0.000"),
        (0.0047, "0.0047"), (0.00999, "0.010"), (-0.25, "−0.250"), (None, "not defined"), (float("nan"), "not defined"),
    ],
)  # fmt: skip
def test_numbers_never_round_to_perfection(value: float | None, words: str) -> None:
    assert number(value) == words


def test_confusion_rows_add_up_to_a_hundred() -> None:
    table = confusion_table([[75, 25], [0, 0]])
    assert table is not None
    assert [[cell["share"] for cell in row["cells"]] for row in table["rows"]] == [["75.0 %", "25.0 %"], ["0.0 %"] * 2]


def test_thinned_curve_keeps_its_ends_and_its_corner() -> None:
    x = np.concatenate([np.zeros(50_000), np.linspace(0, 1, 50_000)])
    y = np.concatenate([np.linspace(0, 1, 50_000), np.ones(50_000)])
    thin_x, thin_y = figures.thin_curve(x, y, limit=200)
    assert len(thin_x) <= 202
    assert (thin_x[0], thin_y[0], thin_x[-1], thin_y[-1]) == (0, 0, 1, 1)
    assert np.min(thin_x + 1 - thin_y) < 0.02


def test_residual_of_independent_genes_is_zero() -> None:
    independent = np.outer([1, 2, 3], [4, 5, 6]).astype(np.uint32)
    np.testing.assert_allclose(heatmap_figures.independence_residual(independent), 0, atol=1e-12)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
@pytest.mark.parametrize(("n", "residual"), [(1, False), (2, True)])
def test_pair_figure_saves_in_every_format(tmp_path: Path, suffix: str, n: int, residual: bool) -> None:
    images = np.random.default_rng(0).poisson(0.4, (n, BINS, BINS)).astype(np.uint32)
    path = tmp_path / f"pairs.{suffix}"
    figure = heatmap_figures.pair_figure(images, ["$a$"] * n, ["<GATA1>"] * n, ["TAL1"] * n, residual=residual)
    figure.savefig(path)
    assert path.stat().st_size > 1000


def test_report_loads_neither_torch_nor_dask_nor_zarr_nor_pyplot() -> None:
    source = "import sys, pairscape.model.reports.run_report\n"
    source += "print({'torch', 'dask', 'zarr', 'matplotlib.pyplot'} & set(sys.modules) or '')"
    loaded = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == ""


if __name__ == "__main__":
    print(write_report(write_run(Path(sys.argv[1]))))


# ---------------------------------------------------------------- counts, and what depth alone scores

NULL = {"n_pairs": 2000, "n_cells": 350, "network": {"beyond_99th_percentile": 0.004, "mean_in_sd": -1.25},
        "spearman": {"beyond_99th_percentile": 0.061, "mean_in_sd": 0.5}}  # fmt: skip


def shown(run: Path, change: dict[str, Any], audit: dict[str, Any]) -> str:
    metrics = json.loads((run / "metrics.json").read_text()) | change
    metrics["audit"] |= audit
    (run / "metrics.json").write_text(json.dumps(metrics))
    return " ".join(write_report(run).read_text().split())


def test_what_depth_alone_scores_stands_below_the_audit(run: Path) -> None:
    page = shown(run, {"depth_null": NULL}, {})
    assert "2,000 pairs were drawn that share nothing but the depth of the cells" in page
    assert "0.4 % of them lie beyond the 99th percentile of the real pairs by CNN" in page
    assert "6.1 % of them lie beyond the 99th percentile of the real pairs by |Spearman|" in page
    assert page.index('id="baselines"') < page.index("2,000 pairs were drawn") < page.index('id="ranking"')


def test_what_could_not_be_computed_is_said_with_its_reason(run: Path) -> None:
    lost = {"balanced_accuracy": None, "auroc": None, "average_precision": None, "reason": "the matrix is gone"}
    page = shown(run, {"depth_null": {"network": None, "spearman": None, "reason": "no counts."}}, {"cscore_z": lost})
    assert "|CS-CORE z|" in page
    assert "Not computed: the matrix is gone." in page
    assert "What depth alone scores was not computed: no counts." in page
    assert "Not computed for all: it reads more." in shown(
        run, {"depth_null": NULL | {"network": None, "reason": "it reads more"}}, {}
    )
