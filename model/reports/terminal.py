"""The summary of a training run in the terminal: the network beside the audit, and whether it collapsed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC", "average_precision": "average precision"}


def print_closing(metrics: dict[str, Any], run: Path) -> None:
    """Print the test scores, the audit on the same rows, and where the report lies; of repeats, mean and spread."""
    console = Console()
    table = Table("", *COLUMNS.values(), title=_title(metrics), title_justify="left")
    spread = metrics.get("spread", {})
    repeated = bool(spread)
    table.add_row("network", *_figures(metrics["test"], spread.get("test")), style="bold", end_section=not repeated)
    if repeated:
        table.add_row("  lowest to highest", *_ranges(spread["test"]), end_section=True)
    for name, scores in metrics["audit"].items():
        table.add_row(name.replace("_", " "), *_figures(scores, spread.get("audit", {}).get(name)))
    console.print(table)
    if metrics["collapsed"]:
        console.print(f"[bold white on red] COLLAPSED [/] the network answers one class: {metrics['collapse_reason']}")
    if metrics.get("failure"):
        console.print(f"[bold white on red] FAILED [/] {metrics['failure']}", highlight=False)
    console.print(f"report: {run / 'report.html'}", soft_wrap=True)


def _title(metrics: Mapping[str, Any]) -> str:
    tested = f"{metrics['n_test']:,} test pairs"
    if repeats := len(metrics.get("repeats", ())):
        tested = f"{repeats} repeats, mean ± standard deviation; {tested} each on average"
    return f"{tested}, split {metrics['split']}, {metrics['prevalence']:.2%} positive"


def _figures(scores: Mapping[str, float | None], spread: Mapping[str, Any] | None) -> list[str]:
    return [_number(scores.get(name)) + _deviation((spread or {}).get(name)) for name in COLUMNS]


def _deviation(spread: Mapping[str, float | None] | None) -> str:
    deviation = spread["standard_deviation"] if spread else None
    return "" if deviation is None else f" ± {deviation:.3f}"


def _ranges(spread: Mapping[str, Any]) -> list[str]:
    found = [spread.get(name) or {} for name in COLUMNS]
    return [f"{_number(own.get('min'))} to {_number(own.get('max'))}" for own in found]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
