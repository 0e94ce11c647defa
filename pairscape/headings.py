"""The help of the command line in order: commands by what a user wants, options under headings, examples at the end.

What an option means stands in the documentation of its class or command, and nowhere else; here is only where it is
shown.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from pairscape.model.options import (
    Combination,
    Drawing,
    EdgeChoice,
    Prediction,
    Rendering,
    Search,
    Splitting,
    Training,
)
from pairscape.pipeline.datasets.designs import Atlas, Planting
from pairscape.pipeline.keywords import section
from pairscape.pipeline.options import Binning, Choices, Compute, Grouping

JOBS = {  # each command stands in one
    "Start": "demo run fetch deploy",
    "Your network": "ingest predict combine compare modules",
    "Look and export": "show browse report export",
    "Train": "heatmaps train evaluate tune plant",
    "Check": "plan verify doctor simulate",
}

LABELS = (
    "labels classes network network_top network_threshold organism threshold fdr sign label_statistic image_cells "
    "negatives negatives_per_positive"
)
NAMES = "gene_map gene_column ignore_case min_matched names"
DEVICE = "device"  # where it runs, also of a prediction or a training
CANDIDATES = "pairs regulators targets all_pairs min_share images"


def _names(*kinds: Any, beside: str = "") -> frozenset[str]:
    """Options of some classes, and others."""
    return frozenset([*(field.name for kind in kinds for field in fields(kind)), *beside.split()])


SOURCES = frozenset(["plan", "heatmaps", "predict"])
TRAINING = frozenset(["train", "tune"])
PLACES: tuple[tuple[str, frozenset[str] | None, frozenset[str]], ...] = (  # heading, of which commands, options
    ("Candidates", SOURCES, _names(beside=CANDIDATES)),
    ("Labels", SOURCES, _names(beside=LABELS)),
    ("Matrix", frozenset(["ingest"]), _names(Choices) - _names(beside=NAMES)),
    ("Atlas", frozenset(["simulate"]), _names(Atlas)),
    ("Planted truth", frozenset(["plant"]), _names(Planting)),
    ("Names", None, _names(beside=NAMES)),
    ("Edges", frozenset(["export", "modules"]), _names(EdgeChoice)),
    ("Pooling", frozenset(["combine"]), _names(Combination)),
    ("Scores", frozenset(["predict"]), _names(Prediction) - {DEVICE}),
    ("Search", frozenset(["tune"]), _names(Search)),
    ("Folds", TRAINING, _names(Splitting, beside="seeds weights test_stores group")),
    ("Network", TRAINING, _names(Training, beside="preset") - {DEVICE}),
    ("Pictures", None, _names(Binning, Drawing, Grouping, Rendering, beside="k group")),
    ("Where it runs", None, _names(Compute, beside=DEVICE)),
    ("Output", None, frozenset()),  # whatever is in none
)
GROUPS = {heading: Group.create_ordered(heading) for heading, *_ in PLACES}
IN_JOBS = {job: names.split() for job, names in JOBS.items()}
JOB_GROUPS = {job: Group.create_ordered(job) for job in JOBS}


def heading(command: str, option: str) -> str:
    """Under which heading an option of a command stands."""
    placed = (
        place for place, commands, options in PLACES if option in options and (commands is None or command in commands)
    )
    return next(placed, "Output")


def register(app: App, command: Callable[..., Any]) -> None:
    """Enter a command under its job, with its options under their headings and its examples."""
    name = command.__name__
    job, place = next(((job, names.index(name)) for job, names in IN_JOBS.items() if name in names), (None, None))
    examples = section(command, "Examples").splitlines()
    shown = "\n\n".join(["**Examples**", *(f"`{line}`" for line in examples)])
    app.command(
        _with_headings(command),
        group=None if job is None else JOB_GROUPS[job],
        sort_key=place,
        help_epilogue=shown if examples else None,
    )


def _with_headings(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command as cyclopts reads it, every option marked with its heading."""

    @functools.wraps(command)
    def marked(*args: Any, **options: Any) -> Any:
        return command(*args, **options)

    signature = inspect.signature(command)
    parameters = [
        one
        if one.kind is not one.KEYWORD_ONLY
        else one.replace(
            annotation=Annotated[one.annotation, Parameter(group=GROUPS[heading(command.__name__, one.name)])]
        )
        for one in signature.parameters.values()
    ]
    vars(marked)["__signature__"] = signature.replace(parameters=parameters)
    marked.__annotations__ = {one.name: one.annotation for one in parameters}
    return marked


def help_panel(console: Any, options: Any, panel: Any) -> None:
    """Draw one panel of a help page, without what goes without saying: `--no-quiet`, `--empty-…`, [default: False]."""
    from cyclopts.help import DefaultFormatter

    panel.entries = [_plain(entry) for entry in panel.entries]
    DefaultFormatter()(console, options, panel)


def _plain(entry: Any) -> Any:
    lists = any(name.startswith("--empty-") for name in entry.negative_names)
    if entry.default == "False":
        return entry.copy(negative_names=(), default=None)
    return entry.copy(negative_names=()) if lists else entry
