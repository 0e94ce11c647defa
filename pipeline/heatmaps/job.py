"""The heatmap job: matrix and pairs → image store. Plans, lays out, fans out, and ends with every shard receipted."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes.encode import encoding
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.opening import worker_threads
from pairscape.pipeline.compute.progress import duration
from pairscape.pipeline.compute.session import Session, Usage
from pairscape.pipeline.compute.tasks import FailedTasksError, reason, run_tasks
from pairscape.pipeline.datasets.networks import network_facts
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.genes.labels import replicate_labels, split_cells
from pairscape.pipeline.genes.negatives import choose_negatives
from pairscape.pipeline.genes.pairs import Candidates, Pairs, candidates
from pairscape.pipeline.heatmaps.count import Spent, count_task
from pairscape.pipeline.heatmaps.images import GroupSpec, Images, ImageSpec, open_images, require_layout
from pairscape.pipeline.heatmaps.layout import create_images
from pairscape.pipeline.heatmaps.memory import Portion, portion
from pairscape.pipeline.heatmaps.shards import clear_shards, differing_shards
from pairscape.pipeline.heatmaps.tiles import (
    Rates,
    Task,
    block_density,
    pair_events,
    plan_tasks,
    shard_seconds,
    storage_order,
    tiles_of,
)
from pairscape.pipeline.heatmaps.widespread import advice, frequent_genes, frequent_line, share_expressing
from pairscape.pipeline.matrix.cell_groups import CellGroups, describe_groups, group_cells
from pairscape.pipeline.matrix.expression import Expression, whole_depth
from pairscape.pipeline.matrix.prepare import counts_of
from pairscape.pipeline.options import Binning, Grouping, PairSource
from pairscape.pipeline.storage.lock import Lock, locked
from pairscape.pipeline.storage.paths import holds_store, is_remote, lasting
from pairscape.pipeline.storage.write import clear_unfinished


@dataclass(frozen=True, eq=False)
class Request:
    """What a user asks of a matrix, resolved: which cells are counted, which pairs, in the order of the store.

    Attributes
    ----------
    cells : (N,) int64
        Rows of the matrix, ascending.
    chosen
        The labelled pairs, and what was understood of the user's files.
    provenance
        The same in words, for the store's attributes.
    groups
        Of these cells, which are counted apart. Absent: all are counted together.
    """

    cells: NDArray[np.int64]
    chosen: Candidates
    provenance: dict[str, Any]
    groups: CellGroups | None = None

    @property
    def n_groups(self) -> int:
        """Images of each pair."""
        return 1 if self.groups is None else len(self.groups.names)

    @property
    def n_counted(self) -> int:
        """Cells that are counted: of groups, those that are in one."""
        return int(self.cells.size if self.groups is None else self.groups.cells.sum())

    @property
    def in_groups(self) -> str:
        """To follow a number of cells."""
        return "" if self.groups is None else f" in {self.n_groups} groups"

    def group_notes(self) -> list[str]:
        """What is to be told of the groups, a line each; none where there are no groups."""
        return [] if self.groups is None else [*self.groups.notes, describe_groups(self.groups)]

    def label_note(self) -> str:
        """How many candidates there are, how many of them positive, and which cells are counted; one line."""
        label = self.chosen.pairs.label
        if (label < 0).all():
            return f"{label.size:,} candidate pairs, no labels"
        counted = f"{self.cells.size:,} cells: {self.provenance['cells']}"
        return f"{label.size:,} candidate pairs, {(label > 0).mean():.2%} of them positive; counted in {counted}"


WORTH_TELLING = 2.0  # seconds
MANY_GENES = 3000  # that make some millions of pairs
SMALL_PAIRS, SMALL_VALUES = 50_000, 200_000_000  # cells × genes that are encoded in a few seconds


def is_small(expression: Expression, pairs: int) -> bool:
    """Whether so many pairs of a matrix are counted, and scored, in the seconds that workers take to start."""
    return pairs <= SMALL_PAIRS and expression.n_cells * len(expression.genes) <= SMALL_VALUES


@dataclass(frozen=True)
class HeatmapOutcome:
    """How a heatmap job ended.

    Attributes
    ----------
    images
        The complete store.
    computed, kept
        Shards computed by this run, and found finished from an earlier one.
    spent
        Bytes written, and seconds of the workers by kind of work.
    usage
        What the workers measured of themselves.
    """

    images: Images
    computed: int
    kept: int
    spent: Spent
    usage: Usage

    def facts(self, seconds: float) -> dict[str, Any]:
        """The same for the log of events; `seconds` is the time of the whole command."""
        pairs = self.images.spec.n_pairs
        shards = {"shards": self.computed + self.kept, "computed": self.computed, "kept": self.kept}
        tasks = {name: getattr(self.usage, name) for name in ("tasks", "retries", "lost_workers")}
        spent = {name: round(value, 3) for name, value in vars(self.spent).items()}
        times = {"busy_seconds": round(self.usage.busy_seconds, 3), "wall_seconds": round(seconds, 3)}
        return {"pairs": pairs, **shards, **tasks, **spent, "peak_bytes": self.usage.peak, **times}

    def lines(self, seconds: float) -> list[str]:
        """What a user is told at the end; `seconds` is the time of the whole command."""
        kept = f", {self.kept} kept from an earlier run" if self.kept else ""
        lines = [f"{self.computed} shards computed{kept}, {self.spent.bytes_written / 1e6:,.1f} MB, {seconds:.0f} s"]
        if not self.computed:
            return lines
        spent, used, size = self.spent, self.usage, self.images.spec.binning.shard_pairs
        images = min(self.computed * size, self.images.spec.n_pairs)
        return [
            *lines,
            f"workers: {spent.reading:.1f} s reading, {spent.counting:.1f} s counting, {spent.compressing:.1f} s "
            f"compressing, {spent.writing:.1f} s writing meanwhile; at most {used.peak / 1e9:.2f} GB of memory in one",
            f"tasks: {used.tasks}, {used.retries} tried again, {used.lost_workers} workers lost; "
            f"{images / seconds:,.0f} images/s, {spent.bytes_written / 1e6 / seconds:,.1f} MB/s",
        ]


def resolve_request(expression: Expression, source: PairSource, seed: int, grouping: Grouping = Grouping()) -> Request:
    """Candidate pairs with labels, the cells to count, and their groups.

    Raises
    ------
    InputError
        As `pipeline.genes.pairs.candidates`, `pipeline.genes.labels`, `pipeline.genes.negatives.choose_negatives` and
        `pipeline.matrix.cell_groups.group_cells`.
    """
    annotations = expression.obs() if grouping.columns else None
    if annotations is not None:  # refused before labels are computed
        group_cells(annotations, grouping.columns, grouping.min_group_cells)
    found = _candidates(expression, source)
    cells, rule = np.arange(expression.n_cells), "all"
    if source.labels == "replicate":
        found, cells, rule = _replicate(expression, found, source, seed)
    found = choose_negatives(found, source, len(expression.genes), seed)
    provenance: dict[str, Any] = {
        "cells": rule,
        "seed": seed,
        "pairs": {key: str(value) for key, value in _options(source).items() if value},
    }
    if source.network is not None:
        provenance["network"] = network_facts(source.network)
    if found.lists:
        provenance["lists"] = list(found.lists)
    groups = None
    if annotations is not None:
        groups = group_cells(annotations.iloc[cells], grouping.columns, grouping.min_group_cells)
        provenance["groups"] = {"by": list(groups.columns), "min_group_cells": grouping.min_group_cells}
    return Request(cells, replace(found, pairs=storage_order(found.pairs)), provenance, groups)


def _candidates(expression: Expression, source: PairSource) -> Candidates:
    """Candidate pairs, and what has to be told of the genes that they are made of."""
    many = source.all_pairs and len(expression.genes) > MANY_GENES
    share = share_expressing(expression) if source.min_share is not None or many else None
    frequent = None if share is None or source.min_share is None else frequent_genes(share, source.min_share)
    found = candidates(source, expression.genes, expression.symbols, expression.others, frequent)
    if share is None:
        return found
    note = advice(share) if source.min_share is None else frequent_line(share, source.min_share)
    return found if note is None else replace(found, notes=(note, *found.notes))


def _options(source: PairSource) -> dict[str, Any]:
    """What was asked for, as far as it decides the pairs; the map of genes is found again from any folder."""
    asked = asdict(source)
    del asked["min_matched"]
    for name, usual in (("classes", "labels"), ("label_statistic", "spearman")):
        if asked[name] == usual:  # as in the stores of earlier versions
            del asked[name]
    return asked | {"gene_map": source.gene_map and Path(source.gene_map).absolute()}


def _replicate(
    expression: Expression, found: Candidates, source: PairSource, seed: int
) -> tuple[Candidates, NDArray[np.int64], str]:
    """Pairs labelled in one half of the cells, the cells of the other half, and the rule in words."""
    label_half, cells = split_cells(expression.n_cells, seed, source.image_cells)
    statistic, depth = source.label_statistic, None
    matrix = expression if statistic == "spearman" else counts_of(expression)
    values = matrix.select(label_half)
    if statistic == "residual":
        depth = whole_depth(matrix, label_half, np.asarray(values.sum(axis=1, dtype=np.float64)).ravel())
    pairs, labels = replicate_labels(found.pairs, values, source.threshold, source.fdr, source.sign, statistic, depth)
    part = "image half" if source.image_cells is None else f"{source.image_cells:,} of the image half"
    rule = f"{part} of a random split, seed {seed}; labels {labels} in the other half"
    return replace(found, pairs=pairs), cells, rule


def make_heatmaps(
    expression: Expression,
    target: Path,
    codes_path: Path | None,
    request: Request,
    binning: Binning,
    session: Session,
) -> HeatmapOutcome:
    """Count every requested pair into an image store; what an earlier run finished is kept.

    Parameters
    ----------
    codes_path
        Where the codes are kept. Absent: beside the images, named after their content.

    Raises
    ------
    InputError
        `target` holds another job, or a worker has too little memory.
    JobError
        Shards are missing at the end, another driver writes to `target`, or the scheduler is gone.
    """
    target = target.absolute()  # workers have other working folders
    codes_path = (codes_path or target.with_name(f"{target.stem}.codes.zarr")).absolute()
    spec, limit = _spec_of(str(codes_path), "", binning, request), session.memory
    # Refuses at once what would not fit, whatever the genes' densities.
    portion(binning, request.cells.size, 1.0, limit, groups=request.n_groups)
    if holds_store(target):  # other pairs, bins or numbers of cells are refused before the matrix is read
        require_layout(target)  # a damaged one would pass for another job
        _refuse_another_job(target, replace(spec, codes_hash=open_images(target, complete=False).spec.codes_hash))
    with lasting(target), locked(target) as lock:
        with encoding(expression, codes_path, binning, request.cells, session) as wanted:
            spec = replace(spec, codes_hash=wanted.content_hash)
            _refuse_another_job(target, spec)  # before the codes of another job on these images are replaced by ours
            codes = wanted.finish()
        session.progress.start("laying out images", 0)
        images, missing = _laid_out(target, spec, request, codes, expression)
        kept = spec.n_shards - len(missing)
        threads = worker_threads(session.client)
        share, tasks, seconds = plan_count(
            codes, request.chosen.pairs, missing, limit, threads, Rates(), request.n_groups
        )
        session.say(*_foretold(float(seconds.sum()) / threads, threads))
        session.usage.events.write(
            "plan", pairs=spec.n_pairs, cells=spec.n_cells, shards=spec.n_shards, kept=kept, tasks=len(tasks),
            threads=threads, task_bytes=share.taken_bytes(codes.n_entries), plan_hash=spec.plan_hash,
        )  # fmt: skip
        session.progress.start("heatmaps", sum(len(spec.shard_rows(shard)) for shard in missing))
        spent = count_shards(images, codes, share, tasks, session, lock)
    return HeatmapOutcome(images, len(missing), kept, spent, session.usage)


def _foretold(seconds: float, threads: int) -> list[str]:
    """How long counting will take, by rates that were not measured here; nothing where it is over at once."""
    if seconds < WORTH_TELLING:
        return []
    return [
        f"counting takes some {duration(seconds)} ({threads} at a time), by rates of another machine; pairscape plan "
        "measures time and disk on this one"
    ]


def _laid_out(
    target: Path, spec: ImageSpec, request: Request, codes: Codes, expression: Expression
) -> tuple[Images, list[int]]:
    """The store, made where it is missing, and its shards to compute, of which nothing is left."""
    if not holds_store(target):
        made_from = codes.provenance  # for a repair, when the codes are gone
        matrix = {"path": made_from["matrix"], "sha256": made_from["matrix_hash"], "values": expression.values}
        provenance = request.provenance | {"matrix": matrix}
        create_images(target, spec, request.chosen.pairs, codes, provenance, expression.symbols, request.groups)
        return open_images(target, complete=False), list(range(spec.n_shards))
    images = open_images(target, complete=False)
    missing = images.missing_shards()
    if missing and not is_remote(target):  # the run before was cut off, so that its files may be anything
        missing = sorted({*missing, *differing_shards(images)})
    clear_shards(images, missing)
    return images, missing


def plan_count(
    codes: Codes,
    pairs: Pairs,
    shards: Sequence[int],
    limit: int | None,
    workers: int,
    rates: Rates,
    groups: int = 1,
) -> tuple[Portion, list[Task], NDArray[np.float64]]:
    """What a worker takes at once, the tasks over the shards to compute, and the seconds each shard should take.

    Parameters
    ----------
    shards
        Numbers of the shards to compute, ascending.
    limit
        Bytes that one thread of a worker may use; None: no limit.
    groups
        Of cells, each of which has its own image of a pair.
    """
    density, size = 1 - codes.array("dropout"), codes.binning.shard_pairs
    share = portion(codes.binning, codes.n_cells, block_density(pairs, density), limit, groups=groups)
    events = pair_events(pairs, density, codes.n_cells)
    seconds = shard_seconds(events, size, rates, groups)[np.asarray(shards, np.int64)]
    return share, plan_tasks(tiles_of(pairs.gene_b, size), shards, seconds, workers), seconds


def _spec_of(codes: str, content_hash: str, binning: Binning, request: Request) -> ImageSpec:
    pairs = request.chosen.pairs
    groups = None if request.groups is None else GroupSpec.of(request.groups)
    return ImageSpec(codes, content_hash, binning, request.n_counted, len(pairs), pairs.content_hash(), groups)


def _refuse_another_job(target: Path, spec: ImageSpec) -> None:
    """A store that is there already has to be what an earlier run of the very same job began."""
    if holds_store(target) and (images := open_images(target, complete=False)).spec.plan_hash != spec.plan_hash:
        raise InputError(
            f"{target} holds another job ({images.spec.n_pairs:,} pairs, {images.spec.n_cells:,} cells, scale "
            f"{images.spec.binning.scale}, {images.spec.binning.bins} bins{_groups_of(images)}) and would be mixed "
            "with this one; give another path, or delete it."
        )


def _groups_of(images: Images) -> str:
    groups = images.spec.groups
    return "" if groups is None else f", {len(groups.names)} groups by {','.join(groups.columns)}"


# ── counting: at the end every shard has its receipt, or the job names those without and the reasons ─────────────────

MOST_RANGES = 20  # of missing shards that a message names; the log of events has all


def count_shards(
    images: Images,
    codes: Codes,
    share: Portion,
    tasks: list[Task],
    session: Session,
    lock: Lock,
) -> Spent:
    """Count the shards of some tasks; returns what it cost.

    A task that fails is cut into its shards, so that one that cannot be counted takes no other with it.

    Parameters
    ----------
    tasks
        Over shards of which nothing is left.
    lock
        Of the store; looked at whenever a task has ended.

    Raises
    ------
    JobError
        Shards are missing at the end: which, and why.
    """
    spent, reasons = Spent(), dict[int, str]()
    while tasks:
        try:
            for task, cost in run_tasks(
                session, count_task, tasks, str(images.path), codes.path, share, describe=_description
            ):
                lock.require()
                session.progress.advance(sum(len(images.spec.shard_rows(shard)) for shard in task.shards))
                spent.add(cost)
            tasks = []
        except FailedTasksError as failed:
            reasons |= {shard: reason(error) for task, error in failed.failures for shard in task.shards}
            tasks = (
                [] if failed.hopeless else _cut(images, [task for task, _ in failed.failures if len(task.shards) > 1])
            )
    if not is_remote(images.path):
        clear_unfinished(images.path)  # what killed workers left
    if missing := images.missing_shards():
        raise _incomplete(images, missing, reasons, session.usage)
    return spent


def _description(task: Task, cost: Spent) -> dict[str, Any]:
    return {"shards": list(task.shards), "bytes": cost.bytes_written}


def _cut(images: Images, failed: list[Task]) -> list[Task]:
    """A task for each shard of the failed ones that is still missing, of which nothing is left."""
    missing = set(images.missing_shards())
    shards = chain.from_iterable(zip(task.shards, task.tiles, strict=True) for task in failed)
    single = [Task((shard,), (tiles,)) for shard, tiles in shards if shard in missing]
    clear_shards(images, [task.shards[0] for task in single])
    return single


def _incomplete(images: Images, missing: list[int], reasons: dict[int, str], usage: Usage) -> JobError:
    by_reason = defaultdict[str, list[int]](list)
    for shard in missing:
        by_reason[reasons.get(shard, "not started" if reasons else "their tasks ended, and left nothing")].append(shard)
    usage.events.write("missing", shards=by_reason)
    listed = "; ".join(f"{_ranges(shards)} ({why})" for why, shards in by_reason.items())
    return JobError(
        f"{images.path}: {len(missing)} of {images.spec.n_shards} shards are missing (first: {missing[0]}): {listed}; "
        "what is finished is kept, run the same again."
    )


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers, such as 3, 7–9."""
    starts = [n for i, n in enumerate(numbers) if i == 0 or n != numbers[i - 1] + 1]
    stops = [n for i, n in enumerate(numbers) if i == len(numbers) - 1 or numbers[i + 1] != n + 1]
    ranges = [str(a) if a == b else f"{a}–{b}" for a, b in zip(starts, stops, strict=True)]
    return ", ".join(ranges[:MOST_RANGES]) + (f" and {len(ranges) - MOST_RANGES} more" * (len(ranges) > MOST_RANGES))
