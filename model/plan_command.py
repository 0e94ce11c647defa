"""The command `plan`: what heatmaps and scores of a matrix cost, measured before anything is spent."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pairscape.pipeline.compute.progress import Say
from pairscape.pipeline.compute.session import Record, first_word, logged, say_unless
from pairscape.pipeline.keywords import flat
from pairscape.pipeline.options import Binning, Compute, Flat, Grouping, PairSource, required_source
from pairscape.pipeline.storage.paths import local_target, located

if TYPE_CHECKING:
    from pairscape.pipeline.heatmaps.plan import Plan, Scoring


@flat
def plan(
    expression: Any,
    /,
    *,
    source: Annotated[PairSource | None, Flat] = None,
    binning: Annotated[Binning, Flat] = Binning(),
    grouping: Annotated[Grouping, Flat] = Grouping(),
    run: Any = "universal",
    codes: Any = None,
    gene_column: str | None = None,
    compute: Annotated[Compute, Flat] = Compute(),
    record: Annotated[Record, Flat] = Record(),
    seed: int = 0,
    quiet: bool = False,
) -> "Plan":
    """What counting and scoring will cost, before spending: pairs, tasks, bytes on disk, memory per task, time.

    That is what `heatmaps` and `predict` do. Time and bytes are measured on some thousands of these very images, by as
    many of the workers as this machine has cores, or by all those of a running scheduler.

    Parameters
    ----------
    expression
        Expression store, or any matrix, as in `heatmaps`.
    run
        Folder that `train` made, or `universal`: the network that would score the pairs.
    codes
        Where an earlier job kept the encoded matrix. Absent: a sample of the cells is encoded, for the plan alone.
    gene_column
        As in `ingest`, by which lists name the genes.
    seed
        Of the split of the cells under `--labels replicate`, and of the draw of negatives.
    quiet
        No progress bars, no table.

    Returns
    -------
    Plan
        The figures as attributes, such as `pairs`, `store_bytes`, `seconds`; shown, it is the table.

    Examples
    --------
    pairscape plan expression.zarr --all-pairs
    pairscape plan cells.h5ad --regulators tfs.txt --workers 16
    """
    source, started = required_source(source), time.perf_counter()
    first_word(quiet, expression)

    from tempfile import TemporaryDirectory

    from pairscape.pipeline.compute.opening import measuring, open_session, worker_threads
    from pairscape.pipeline.datasets.networks import with_network
    from pairscape.pipeline.heatmaps.job import is_small, resolve_request
    from pairscape.pipeline.heatmaps.plan import plan_heatmaps
    from pairscape.pipeline.matrix.prepare import prepared

    log_of = logged(record.events, "plan", expression=expression)
    with TemporaryDirectory(prefix="pairscape-plan") as scratch, log_of as log:
        beside, say = Path(scratch, "plan"), say_unless(quiet)
        matrix = prepared(expression, beside, compute=compute, gene_column=gene_column, say=say)
        with with_network(source, None) as (source, notes):
            request = resolve_request(matrix, source, seed, grouping)
        say(*notes, *request.chosen.notes, request.label_note(), *request.group_notes())
        small = is_small(matrix, len(request.chosen.pairs))
        with open_session(
            measuring(compute), quiet, reads=[matrix.path], writes=scratch, events=log,
            report=record.performance_report, small=small,
        ) as session:  # fmt: skip
            workers = compute.workers or worker_threads(session.client)
            opened = time.perf_counter()
            scoring = _scoring(run, binning, seed, say)
            loaded = time.perf_counter()
            cost = plan_heatmaps(matrix, request, binning, codes and located(codes), workers, session, scoring)
            measured = time.perf_counter()
        ends = opened - started + time.perf_counter() - measured
    loading = loaded - opened if scoring is not None else 0.0  # which `heatmaps` does not
    cost = replace(cost, start_seconds=ends, score_seconds=cost.score_seconds + loading)
    say(*cost.lines())
    return cost


def _scoring(run: Any, binning: Binning, seed: int, say: Say) -> "Scoring | None":
    """What foretells the scoring by a network; None, and said, where it looks at another number of bins."""
    from pairscape.model.networks.bundled import find_run
    from pairscape.model.options import Prediction
    from pairscape.model.prediction.checked import CheckedPrediction
    from pairscape.model.prediction.foretold import foretell
    from pairscape.model.prediction.trained import TrainedRun

    trained = TrainedRun.open(local_target(find_run(run, lambda *_: None)))
    if trained.binning.bins != binning.bins:
        bins = trained.binning.bins
        say(f"scoring is not foretold: {trained.name} looks at pictures of {bins} bins, and --bins is {binning.bins}")
        return None
    checked = CheckedPrediction(trained, Path("scores.parquet").absolute(), Prediction(), seed)
    return partial(foretell, checked)
