"""The last words of a training run in the terminal: the network beside the audit, and whether it collapsed."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC", "average_precision": "average precision"}


def print_closing(metrics: dict[str, Any], run: Path) -> None:
    """Print the test scores, the audit on the same rows, and where the report lies."""
    console = Console()
    title = f"{metrics['n_test']:,} test pairs, split {metrics['split']}, {metrics['prevalence']:.2%} positive"
    table = Table("", *COLUMNS.values(), title=title, title_justify="left")
    table.add_row("network", *_figures(metrics["test"]), style="bold", end_section=True)
    for name, scores in metrics["audit"].items():
        table.add_row(name.replace("_", " "), *_figures(scores))
    console.print(table)
    if metrics["collapsed"]:
        console.print(f"[bold white on red] COLLAPSED [/] the network answers one class: {metrics['collapse_reason']}")
    if metrics.get("failure"):
        console.print(f"[bold white on red] FAILED [/] {metrics['failure']}", highlight=False)
    console.print(f"report: {run / 'report.html'}", soft_wrap=True)


def _figures(scores: dict[str, float | None]) -> list[str]:
    return [f"{value:.3f}" if (value := scores[name]) is not None else "–" for name in COLUMNS]
