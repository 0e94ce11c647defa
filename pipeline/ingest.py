"""Any matrix to our expression store, out of core: survey, say what was understood, write, publish.

The survey scans the cells a block at a time: what the values are, and what every cell and every gene has. From it
follow the filters, the preset and where each cell's entries will lie. Strict filters take further scans.
Then a task writes one shard of every big array; a cell that reaches over the end of one is read for both. The driver
holds some 50 bytes a cell beside the annotations, a task a few million entries.

Everything grows in `.NAME.wip` beside the target (`pipeline.workplace`): scans are kept block by block, shards have
receipts, and the same command goes on where it was interrupted.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata.utils import make_index_unique
from distributed import Client
from numpy.typing import NDArray

from pipeline.choices import Choices
from pipeline.cluster import open_client, smallest_memory
from pipeline.errors import InputError
from pipeline.expression import CHUNK_ENTRIES, SHARD_ENTRIES, create_matrices, lay_out, pieces, write_annotations
from pipeline.fanout import Usage
from pipeline.matrix import check_names, check_not_transposed, gene_symbols
from pipeline.memory import ingest_bytes, require_ingest_memory
from pipeline.normalize import DEEP_CELL_SHARE, EXACT, check_values, choose_preset, value_kind
from pipeline.open_source import open_source
from pipeline.passes import Cells, Runner, scan_cells
from pipeline.progress import Progress, Silent
from pipeline.publish import check_target
from pipeline.selection import choose_cells, choose_genes, mapped_symbols, mitochondrial
from pipeline.shards import write_file
from pipeline.source import Source
from pipeline.spec import Compute
from pipeline.summary import Summary
from pipeline.survey import Facts, Values, Wanted
from pipeline.understanding import describe_names
from pipeline.variable import Normalised, highly_variable
from pipeline.workplace import Workplace, no_workplace, workplace
from pipeline.writing import Matrix, Writing, is_written, write_piece

BLOCK_ENTRIES = 2**22  # of a block that is scanned: a task has some 100 MB
SAMPLED_CELLS = 32  # at three places, to tell how dense the matrix is
SMALL_ENTRIES = 2 * SHARD_ENTRIES  # a matrix of no more is done in this process before a cluster would have started


@dataclass(frozen=True, eq=False)
class _Job:
    """A matrix that is being ingested.

    Attributes
    ----------
    symbols
        Of the genes; None where they are unknown.
    cells
        Those that were chosen, and how many are read together.
    listed : (gene,) bool
        Genes that a list names; all where there is none.
    wanted
        What the first scan looks at.
    task_bytes
        Memory of the largest task.
    notes
        What has to be said of all this.
    """

    source: Source
    choices: Choices
    symbols: tuple[str, ...] | None
    cells: Cells
    listed: NDArray[np.bool_]
    wanted: Wanted
    entries: float
    task_bytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Kept:
    """What the filters leave.

    Attributes
    ----------
    cells : (cell,) bool, genes : (gene,) bool
        Of the source.
    facts
        Of every matrix, from the scan that agrees with them.
    """

    cells: NDArray[np.bool_]
    genes: NDArray[np.bool_]
    facts: list[Facts]


@dataclass(frozen=True, eq=False)
class _Plan:
    """All that is to be written.

    Attributes
    ----------
    kept
        Cells, and genes over which a cell is normalised.
    stored : (gene,) bool
        Genes that are stored.
    pointers
        By matrix, where each stored cell's entries start.
    """

    kept: _Kept
    stored: NDArray[np.bool_]
    writing: Writing
    pointers: list[NDArray[np.int64]]
    summary: Summary
    obs: pd.DataFrame
    var: pd.DataFrame
    uns: dict[str, Any]


def ingest(
    source: Any,
    target: str | Path,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    compute: Compute | None = None,
    progress: Progress | None = None,
    show: Callable[[Summary], None] | None = None,
    usage: Usage | None = None,
    **choices: Any,
) -> Summary:
    """Write a matrix as expression store: AnnData-on-Zarr 3, CSR log expression, layers["counts"] when known.

    The store holds X, counts, obs and var with scanpy's quality figures, var["symbol"] when known, and
    uns["pairscape"]; embeddings and graphs of the source stay behind. It appears under its name only when it is
    complete, and is the same to the byte whatever computes it. An interrupted job goes on.

    Parameters
    ----------
    source
        A path, an AnnData, or a list of several, as `pipeline.open_source.open_source`.
    target
        A path that ends in .zarr; folders above it are made.
    overwrite
        Replace the Zarr store at target, once the new one is complete; False: an existing target is an error.
    dry_run
        Only tell what was understood; nothing is written.
    compute
        Where the work runs. Absent: in this process where the matrix is small, else one local worker a core.
    show
        Called with the summary before the store is written.
    usage
        Takes in what the workers measured of themselves.
    choices
        Fields of `pipeline.choices.Choices`.

    Raises
    ------
    InputError
        As `open_source`, `Choices`, `pipeline.selection`, `pipeline.normalize` and `pipeline.publish.check_target`; an
        annotation cannot be stored; less than two cells or genes are left; a task would not fit into a worker's memory.
    JobError
        The disk refuses, or tasks failed; what is finished is kept.
    """
    chosen, target = Choices(**choices), Path(target).absolute()  # workers have other working folders
    check_target(target, overwrite=overwrite)
    progress, usage = progress or Silent(), usage if usage is not None else Usage()
    with no_workplace() if dry_run else workplace(target) as place:
        job = _open(source, chosen, place, progress)
        with _client(job, compute) as client:
            small = client is None and compute is None
            runner = Runner(client, Silent() if small else progress, usage)
            require_ingest_memory(job.task_bytes, smallest_memory(client, compute or Compute("synchronous")))
            place.claim(_identity(job))
            plan = _plan(job, place, runner)
            if show is not None:
                show(plan.summary)
            if dry_run:
                return plan.summary
            _begin_store(plan, place)
            place.keeps = True
            _write(plan, place, runner)
        place.publish(target)
    return plan.summary


# ── what is asked for ────────────────────────────────────────────────────────────────────────────────────────────────


def _open(source: Any, choices: Choices, place: Workplace, progress: Progress) -> _Job:
    """The matrix, its names in order, and what of it was chosen."""
    opened = open_source(
        source, orientation=choices.orientation, layer=choices.layer, key=choices.key, join=choices.join,
        scratch=place.scratch, progress=progress,
    )  # fmt: skip
    genes, notes = opened.var.index, list(opened.notes)
    check_names(opened.obs.index, genes, opened.name)
    if opened.orientation_from != "request":
        check_not_transposed(opened.obs.index, genes, opened.name)
    if opened.obs.index.has_duplicates:
        # Cells of several samples may share barcodes. Nothing of ours goes by a cell's name, but AnnData wants them so.
        twice = int(opened.obs.index.duplicated().sum())
        notes.append(f"{twice:,} cells had the name of another: made unique with -1, -2, …")
        opened = replace(opened, obs=opened.obs.set_axis(make_index_unique(opened.obs.index), axis=0))
    symbols = gene_symbols(opened.var)
    if choices.gene_map is not None:
        named, note = mapped_symbols(Path(choices.gene_map), genes)
        symbols, notes = tuple(named), [*notes, note]
    chosen = choose_cells(opened.obs, choices.cells)
    listed, note = choose_genes(None if choices.genes is None else Path(choices.genes), genes, symbols)
    notes += [note] if note else []
    # Listed genes that are stored beside the most variable ones are known only after these are.
    stored = listed if choices.highly_variable is None else np.ones(len(genes), bool)
    wanted = Wanted(np.ones(len(genes), bool), stored, mitochondrial(genes, symbols), choices.min_genes)
    density = _density(opened)
    block = _block_cells(opened, density)
    most = block * len(genes) * density
    return _Job(
        opened, choices, symbols, Cells(chosen, block), listed, wanted, density * len(genes) * chosen.sum(),
        ingest_bytes(len(genes), max(int(1.25 * most), SHARD_ENTRIES)), tuple(notes),
    )  # fmt: skip


def _density(source: Source) -> float:
    """Share of values above zero in the densest of three samples."""
    n_cells, n_genes = len(source.obs), len(source.var)
    taken = min(SAMPLED_CELLS, n_cells)
    starts = sorted({0, (n_cells - taken) // 2, n_cells - taken})
    most = max(int(source.values.rows(start, start + taken).nnz) for start in starts)
    return max(most, 1) / (taken * n_genes)


def _block_cells(source: Source, density: float) -> int:
    """Cells that are scanned together: some million entries, no part of the source read twice."""
    wanted = max(int(BLOCK_ENTRIES / (density * len(source.var))), 1)
    return max(wanted // source.block_cells, 1) * source.block_cells


def _identity(job: _Job) -> dict[str, Any]:
    """All that decides a byte of the store."""
    choices = {name: str(value) for name, value in asdict(job.choices).items() if value is not None}
    lists = (job.choices.genes, job.choices.gene_map)
    contents = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in lists if path is not None]
    layout = [job.cells.block, CHUNK_ENTRIES, SHARD_ENTRIES]
    return {"version": 1, "stamp": job.source.stamp, "choices": choices, "lists": contents, "layout": layout}


@contextmanager
def _client(job: _Job, compute: Compute | None) -> Iterator[Client | None]:
    """The cluster that was asked for; where none was, a small matrix needs none."""
    if compute is None and job.entries <= SMALL_ENTRIES:
        yield None
    else:
        with open_client(compute or Compute()) as client:
            yield client


# ── what was understood ──────────────────────────────────────────────────────────────────────────────────────────────


def _plan(job: _Job, place: Workplace, runner: Runner) -> _Plan:
    readers = (job.source.values, *([job.source.counts] if job.source.counts is not None else []))
    survey = scan_cells(readers, job.wanted, job.cells, place.path / "scan0", "reading cells", runner)
    values = survey[0].values
    if values.entries:  # of nothing at all the filters say more
        check_values(values, job.source.var.index, job.source.name)
    kept = _filter(job, survey, place, runner)
    if min(kept.cells.sum(), kept.genes.sum()) < 2:
        raise InputError(_nothing_left(job, kept))
    preset, note = choose_preset(job.choices.preset, values, job.source.name)
    notes = [*job.notes, *([note] if note else [])]
    own_counts = value_kind(values) == "raw counts"
    known_counts = job.source.counts is not None and not own_counts and _are_counts(survey[1].values)
    if job.source.counts is not None and not own_counts and not known_counts:
        notes.append("the counts beside the values are left out: they are no whole numbers of molecules")
    stored = _stored(job, kept, preset, runner)
    if not (stored == (kept.genes & job.wanted.stored)).all() or _cut_counts(kept, known_counts):
        wanted = replace(job.wanted, counted=kept.genes, stored=stored)
        found = scan_cells(readers, wanted, job.cells, place.path / "entries", "counting entries", runner)
        kept = replace(kept, facts=found)
    matrices = [Matrix(job.source.values, preset, lay_out(1, 1, 1, ("X", "layers/counts") if own_counts else ("X",)))]
    if known_counts and job.source.counts is not None:
        matrices.append(Matrix(job.source.counts, "none", lay_out(1, 1, 1, ("layers/counts",))))
    pointers = [_pointers(kept, number, job.cells) for number in range(len(matrices))]
    matrices = [
        replace(m, layout=lay_out(int(p[-1]), CHUNK_ENTRIES, SHARD_ENTRIES, m.layout.matrices))
        for m, p in zip(matrices, pointers, strict=True)
    ]
    did = {"preset": preset, "value_kind": value_kind(values)}
    summary = _summary(job, kept, stored, pointers[0], values, did, own_counts or known_counts, notes)
    writing = Writing(str(place.path), tuple(matrices), job.cells.block)
    obs = _with_quality(job, survey, kept, own_counts, known_counts)
    return _Plan(kept, stored, writing, pointers, summary, *obs, _record(job, summary))


def _filter(job: _Job, survey: list[Facts], place: Workplace, runner: Runner) -> _Kept:
    """Cells and genes that satisfy both minima among themselves; the largest such set, so it needs no order."""
    allowed, min_cells = _allowed(job, survey[0])
    facts, wanted, scans = survey, job.wanted, 0
    while True:
        genes = wanted.counted & allowed & (facts[0].genes["kept"] >= min_cells)
        if not facts[0].genes["kept"][wanted.counted & ~genes].any():  # what goes now is in no cell that stays
            break
        wanted, scans = replace(wanted, counted=genes), scans + 1
        readers = (job.source.values, *([job.source.counts] if job.source.counts is not None else []))
        facts = scan_cells(readers, wanted, job.cells, place.path / f"scan{scans}", "filtering", runner)
    cells = job.cells.chosen.copy()
    cells[cells] = facts[0].cells["counted"] >= job.choices.min_genes
    return _Kept(cells, genes, facts)


def _allowed(job: _Job, survey: Facts) -> tuple[NDArray[np.bool_], int]:
    """Genes that a preset leaves in, and in how many cells one has to be expressed."""
    genes, n_cells = survey.genes, survey.cells.size
    if job.choices.preset != "deep-cell":
        return np.ones(genes.size, bool), job.choices.min_cells
    constant = (genes["expressed"] == n_cells) & (genes["low"] == genes["high"])
    expressing = int((survey.cells["expressed"] > 0).sum())
    return ~constant, max(job.choices.min_cells, int(DEEP_CELL_SHARE * expressing) + 1)


def _nothing_left(job: _Job, kept: _Kept) -> str:
    chosen, choices = int(job.cells.chosen.sum()), job.choices
    preset = f", preset {choices.preset}" if choices.preset == "deep-cell" else ""
    return (
        f"{job.source.name}: {int(kept.cells.sum())} of {chosen} cells and {int(kept.genes.sum())} of "
        f"{kept.genes.size} genes are left with min_cells={choices.min_cells} and min_genes={choices.min_genes}"
        f"{preset} (1 drops only what has no expression at all); gene pairs need two of each: lower the minima or "
        "check the matrix"
    )


def _are_counts(values: Values) -> bool:
    return values.whole and not values.bad and values.low >= 0 and values.high < EXACT


def _cut_counts(kept: _Kept, known_counts: bool) -> bool:
    """Whether counts, whose pattern may be another, have entries in genes that went."""
    return known_counts and bool(kept.facts[1].genes["expressed"][~kept.genes].any())


def _stored(job: _Job, kept: _Kept, preset: Any, runner: Runner) -> NDArray[np.bool_]:
    """(gene,) which of the kept genes are stored."""
    stored, n = kept.genes & job.listed, job.choices.highly_variable
    if n is not None:
        genes = np.flatnonzero(kept.genes)
        source, cells = Normalised(job.source.values, genes, preset), Cells(kept.cells, job.cells.block)
        runner.progress.start("variable genes", 0)
        variable = np.zeros(kept.genes.size, bool)
        variable[genes[highly_variable(source, cells, n, here=runner.client is None)]] = True
        stored = variable if job.choices.genes is None else stored | variable
    if stored.sum() < 2:
        raise InputError(
            f"{job.source.name}: {int(stored.sum())} of the {int(job.listed.sum())} genes that are asked for are "
            f"expressed in {job.choices.min_cells} or more cells; gene pairs need two: ask for more genes, or lower "
            "--min-cells"
        )
    return stored


def _pointers(kept: _Kept, number: int, cells: Cells) -> NDArray[np.int64]:
    """(stored cell + 1,) where the entries of each cell start in a matrix."""
    entries = kept.facts[number].cells["entries"][kept.cells[cells.chosen]]
    return np.concatenate([[0], np.cumsum(entries, dtype=np.int64)])


def _summary(
    job: _Job, kept: _Kept, stored: NDArray[np.bool_], pointers: NDArray[np.int64], values: Values,
    did: dict[str, Any], counts_kept: bool, notes: list[str],
) -> Summary:  # fmt: skip
    names = describe_names(list(job.source.var.index), job.symbols)
    cells, genes = int(kept.cells.sum()), int(stored.sum())
    return Summary(
        source=job.source.name,
        source_cells=len(job.source.obs),
        source_genes=len(job.source.var),
        cells=cells,
        genes=genes,
        filled=values.entries / (int(job.cells.chosen.sum()) * len(job.source.var)),
        density=int(pointers[-1]) / (cells * genes),
        values=values,
        orientation=job.source.orientation,
        orientation_from=job.source.orientation_from,
        names=names,
        dropped_cells=int(job.cells.chosen.sum()) - cells,
        dropped_genes=len(job.source.var) - int(kept.genes.sum()),
        counts_kept=counts_kept,
        notes=(*notes, *_chosen_notes(job, kept, genes)),
        **did,
    )


def _chosen_notes(job: _Job, kept: _Kept, genes: int) -> list[str]:
    """What was left aside because the user asked for it."""
    notes, chosen = list[str](), int(job.cells.chosen.sum())
    if job.choices.cells is not None:
        notes.append(f"{chosen:,} of {len(job.source.obs):,} cells meet {job.choices.cells}")
    if genes < kept.genes.sum():
        what = "candidates for pairs; cells were normalised over all genes before"
        notes.append(f"{genes:,} of the {int(kept.genes.sum()):,} genes are stored, as {what}")
    return notes


def _record(job: _Job, summary: Summary) -> dict[str, Any]:
    """What the store says of its making."""
    asked = {"cells": job.choices.cells, "highly_variable": job.choices.highly_variable}
    asked["genes"] = None if job.choices.genes is None else Path(job.choices.genes).name
    did = {
        "source": Path(job.source.name).name,
        "orientation": summary.orientation,
        "orientation_from": summary.orientation_from,
        "preset": summary.preset,
        "value_kind": summary.value_kind,
        "min_cells": job.choices.min_cells,
        "min_genes": job.choices.min_genes,
        "dropped_cells": summary.dropped_cells,
        "dropped_genes": summary.dropped_genes,
    }
    return {"pairscape": did | {name: value for name, value in asked.items() if value is not None}}


def _with_quality(
    job: _Job, survey: list[Facts], kept: _Kept, own_counts: bool, known_counts: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Annotations of the kept cells and of all genes, with scanpy's figures of quality from before the filters.

    Columns of the source stay as they are. Totals are of molecules, so they are known only where counts are.
    """
    facts = survey[1] if known_counts else survey[0]
    obs, var = job.source.obs[job.cells.chosen].copy(), job.source.var.copy()
    if job.symbols is not None:
        var["symbol"] = list(job.symbols)
    figures: dict[str, Any] = {"n_genes_by_counts": facts.cells["expressed"]}
    if own_counts or known_counts:
        total = facts.cells["total"]
        figures["total_counts"] = total.astype(np.float32)
        if job.wanted.mitochondrial.any():
            share = 100 * facts.cells["mitochondrial"] / np.where(total > 0, total, 1)
            figures["pct_counts_mt"] = share.astype(np.float32)
    for name, column in figures.items():
        if name not in obs:
            obs[name] = column
    if "n_cells_by_counts" not in var:
        var["n_cells_by_counts"] = facts.genes["expressed"]
    return obs[kept.cells[job.cells.chosen]], var


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────────


def _begin_store(plan: _Plan, place: Workplace) -> None:
    """Everything but the entries, unless an interrupted run has done so."""
    done = place.path / "begun"
    if done.exists():
        return
    shutil.rmtree(place.store, ignore_errors=True)
    root = write_annotations(place.store, plan.obs, plan.var[plan.stored], plan.uns)
    shape = int(plan.kept.cells.sum()), int(plan.stored.sum())
    for matrix, pointers in zip(plan.writing.matrices, plan.pointers, strict=True):
        create_matrices(root, shape, pointers, matrix.layout)
    genes = np.flatnonzero(plan.kept.genes)
    np.save(place.path / "cells.npy", np.flatnonzero(plan.kept.cells))
    np.save(place.path / "genes.npy", genes)
    np.save(place.path / "stored.npy", np.flatnonzero(plan.stored[genes]))
    write_file(done, json.dumps(list(shape)).encode())


def _write(plan: _Plan, place: Workplace, runner: Runner) -> None:
    """Every shard that has no receipt yet."""
    runner.progress.start("writing entries", sum(int(pointers[-1]) for pointers in plan.pointers))
    tasks = []
    for number, (matrix, pointers) in enumerate(zip(plan.writing.matrices, plan.pointers, strict=True)):
        for piece in pieces(pointers, matrix.layout.shard):
            if is_written(plan.writing, (number, piece)):
                first = piece.shard * matrix.layout.shard
                runner.progress.advance(min(first + matrix.layout.shard, int(pointers[-1])) - first)
            else:
                tasks.append((number, piece))
    for _, written in runner.run(write_piece, tasks, plan.writing):
        runner.progress.advance(written)
