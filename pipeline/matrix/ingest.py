"""Any matrix to our expression store, out of core: survey, say what was understood, write, publish.

The survey scans the cells a block at a time: what the values are, and what every cell and every gene has. From it
follow the filters, the preset and where each cell's entries will lie. Strict filters take further scans.
Then a task writes one shard of every big array; a cell that reaches over the end of one is read for both. The driver
holds some 50 bytes a cell beside the annotations, a task a few million entries.

Everything grows in `.NAME.wip` beside the target (`pipeline.storage.workspace`): scans are kept block by block, shards
have receipts, and the same command goes on where it was interrupted.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from pairscape.pipeline.compute.memory import CSR_BYTES, SHARD_BYTES, require_memory
from pairscape.pipeline.compute.opening import smallest_memory
from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import run_on_source
from pairscape.pipeline.genes.describe import describe_names
from pairscape.pipeline.matrix.filter import Filtered, choose_stored, sift
from pairscape.pipeline.matrix.intake import Intake, take_in
from pairscape.pipeline.matrix.normalize import are_counts, check_judged, check_values, choose_preset
from pairscape.pipeline.matrix.scan import ChosenCells, scan_cells
from pairscape.pipeline.matrix.store import (
    CHUNK_ENTRIES,
    SHARD_ENTRIES,
    create_matrices,
    lay_out,
    pieces,
    write_annotations,
)
from pairscape.pipeline.matrix.summary import Summary, annotations, record
from pairscape.pipeline.matrix.survey import Facts, Values
from pairscape.pipeline.matrix.write import Writing, WrittenMatrix, is_written, write_piece
from pairscape.pipeline.options import Choices, Compute, Preset
from pairscape.pipeline.storage.ownership import check_target, mark_expression
from pairscape.pipeline.storage.paths import is_remote, local_target, spelled
from pairscape.pipeline.storage.workspace import Workplace, no_workplace, workplace
from pairscape.pipeline.storage.write import clear_unfinished, write_file

Counts = Literal["values", "beside", "unknown"]  # where raw counts are

if TYPE_CHECKING:
    from distributed import Client

FULL_BARCODES = 50  # the cell of this rank by molecules stands for the full ones
NEAR_EMPTY, NEAR_EMPTY_SHARE = 0.02, 0.25  # of its molecules, and of the barcodes: real cells have 0 to 12 % such
SMALL_ENTRIES = 2 * SHARD_ENTRIES  # a matrix of no more is done in this process before a cluster would have started


@dataclass(frozen=True, eq=False)
class _Plan:
    """All that is to be written.

    Attributes
    ----------
    kept
        ChosenCells, and genes over which a cell is normalised.
    stored : (gene,) bool
        Genes that are stored.
    obs, var, uns
        Annotations of what is stored.
    pointers
        By matrix, where each stored cell's entries start.
    """

    kept: Filtered
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
    session: Session | None = None,
    made_from: str | None = None,
    report: Path | None = None,
    **choices: Any,
) -> Summary:
    """Write a matrix as expression store: AnnData-on-Zarr 3, CSR log expression, layers["counts"] when known.

    The store holds X, counts, obs and var with scanpy's quality figures, var["symbol"] when known, and
    uns["pairscape"]; embeddings and graphs of the source stay behind. It appears under its name only when it is
    complete, and is the same to the byte whatever computes it. An interrupted job goes on.

    Parameters
    ----------
    source
        A path, an AnnData, or a list of several.
    target
        A path that ends in .zarr; folders above it are made.
    overwrite
        Replace the Zarr store at target, once the new one is complete; False: an existing target is an error.
    dry_run
        Only tell what was understood; nothing is written.
    compute
        Where the work runs. Absent, or nothing said in it: in this process where the matrix is small, else one local
        worker a core.
    session
        Its bars and lines are used, and the summary is said before the store is written; its client is not. Absent:
        nothing is said.
    made_from
        Kept in the store's record, for whoever has to know again what it was made from.
    report
        Page of Dask's measurements to write, for which workers are started. Absent: none is.
    choices
        Fields of `pairscape.pipeline.options.Choices`.

    Raises
    ------
    InputError
        The source cannot be opened or is no expression; a choice or the preset does not fit it; the target may not be
        written, or is the source; an annotation cannot be stored; less than two cells or genes are left; a
        task would not fit into a worker's memory.
    JobError
        The disk refuses, or tasks failed; what is finished is kept.
    """
    chosen, target = Choices(**choices), local_target(target).absolute()  # workers have other working folders
    check_target(target, overwrite=overwrite, sources=source if isinstance(source, list | tuple) else [source])
    session = session or Session()
    with no_workplace() if dry_run else workplace(target) as place:
        session.progress.start("looking at matrix", 0)
        job = take_in(source, chosen, place.scratch, session.progress)
        opened = partial(_client, session, _files(source), None if dry_run else target)
        with _session(job, compute, opened, session, report) as session:
            place.claim(_identity(job))
            plan = _plan(job, place, session)
            if made_from is not None:
                plan.uns["pairscape"]["made_from"] = made_from
            session.say(*plan.summary.lines())
            if dry_run:
                return plan.summary
            _begin_store(plan, place)
            place.keeps = True
            _write(plan, place, session)
        place.publish(target)
    return plan.summary


def _files(source: Any) -> list[str]:
    """The files and folders of this machine that a source names; workers read them too."""
    several = source if isinstance(source, list | tuple) else [source]
    places = [spelled(one) for one in several if not isinstance(one, AnnData)]
    return [place for place in places if not is_remote(place) and Path(place).exists()]


def _identity(job: Intake) -> dict[str, Any]:
    """All that decides a byte of the store."""
    choices = {name: str(value) for name, value in asdict(job.choices).items() if value is not None}
    lists = (job.choices.genes, job.choices.gene_map)
    contents = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in lists if path is not None]
    layout = [job.cells.block, CHUNK_ENTRIES, SHARD_ENTRIES]
    return {"version": 1, "stamp": job.source.stamp, "choices": choices, "lists": contents, "layout": layout}


def _client(
    session: Session, reads: list[str], writes: Path | None, compute: Compute
) -> AbstractContextManager["Client | None"]:
    """A client; only a large matrix loads Dask."""
    from pairscape.pipeline.compute.clusters import open_client

    return open_client(compute, session.say, reads=reads, writes=writes)


@contextmanager
def _session(
    job: Intake,
    compute: Compute | None,
    opened: Callable[[Compute], AbstractContextManager["Client | None"]],
    session: Session,
    report: Path | None,
) -> Iterator[Session]:
    """The cluster that was asked for; where none was, a small matrix needs none, nor a bar."""
    need = ingest_bytes(len(job.source.var), max(job.block_entries, min(job.entries, SHARD_ENTRIES)))
    if compute in (None, Compute()) and report is None and job.entries <= SMALL_ENTRIES:
        require_memory(INGESTING, need, smallest_memory(None, Compute("synchronous")))
        yield replace(session, progress=Silent())
        return
    from pairscape.pipeline.compute.clusters import reported

    with opened(compute or Compute()) as client, reported(client, report):
        require_memory(INGESTING, need, smallest_memory(client, compute or Compute()))
        yield replace(session, client=client)


# ── what was understood ──────────────────────────────────────────────────────────────────────────────────────────────


def _plan(job: Intake, place: Workplace, session: Session) -> _Plan:
    survey = scan_cells(job.readers, job.wanted, job.cells, place.path / "scan0", "reading cells", session)
    values = survey[0].values
    check_values(values, job.source.var.index, job.source.name)
    check_judged(job.source.judged, values, job.source.name)
    kept = sift(job, survey, place.path, session)
    preset, note = choose_preset(job.choices.preset, job.source.judged, job.source.name)
    counts, counts_note = _counts(job, survey)
    stored = choose_stored(job, kept, preset, session)
    kept = _recount(job, kept, stored, counts == "beside", place, session)
    writing, pointers = _lay_out(job, kept, preset, counts, str(place.path))
    notes = [said for said in (note, counts_note, _near_empty(job, survey[0])) if said]
    summary = _summary(job, kept, stored, pointers[0], values, preset, counts, notes)
    obs, var = annotations(job, survey[counts == "beside"], kept, counts != "unknown")
    return _Plan(kept, stored, writing, pointers, summary, obs, var[stored], record(job, summary))


def _counts(job: Intake, survey: list[Facts]) -> tuple[Counts, str]:
    """Where raw counts are, and what has to be said of it."""
    if job.source.judged.kind == "raw counts":
        return "values", ""
    if job.source.counts is None:
        return "unknown", ""
    if are_counts(survey[1].values):
        return "beside", ""
    return "unknown", "the counts beside the values are left out: they are no whole numbers of molecules"


def _recount(
    job: Intake, kept: Filtered, stored: NDArray[np.bool_], beside: bool, place: Workplace, session: Session
) -> Filtered:
    """The same with facts of the stored genes, by another scan where the last one was of others."""
    counted = (stored == (kept.genes & job.wanted.stored)).all()
    # Counts beside the values may have entries where the values have none, in genes that went for it.
    if counted and not (beside and kept.facts[1].genes["expressed"][~kept.genes].any()):
        return kept
    wanted = replace(job.wanted, counted=kept.genes, stored=stored)
    facts = scan_cells(job.readers, wanted, job.cells, place.path / "entries", "counting entries", session)
    return replace(kept, facts=facts)


def _lay_out(
    job: Intake, kept: Filtered, preset: Preset, counts: Counts, folder: str
) -> tuple[Writing, list[NDArray[np.int64]]]:
    """What is written from which matrix, and where each cell's entries start there."""
    groups = [("X", "layers/counts")] if counts == "values" else [("X",)]
    presets: list[Preset] = [preset]
    if counts == "beside":
        groups, presets = [*groups, ("layers/counts",)], [*presets, "none"]
    pointers = [_pointers(kept, number, job.cells) for number in range(len(groups))]
    parts = zip(job.readers, presets, groups, pointers, strict=False)  # counts that are left out have a reader too
    layouts = ((r, p, lay_out(int(starts[-1]), CHUNK_ENTRIES, SHARD_ENTRIES, g)) for r, p, g, starts in parts)
    return Writing(folder, tuple(WrittenMatrix(*part) for part in layouts), job.cells.block), pointers


def _pointers(kept: Filtered, number: int, cells: ChosenCells) -> NDArray[np.int64]:
    """(stored cell + 1,) where the entries of each cell start in a matrix."""
    entries = kept.facts[number].cells["entries"][kept.cells[cells.chosen]]
    return np.concatenate([[0], np.cumsum(entries, dtype=np.int64)])


def _summary(
    job: Intake, kept: Filtered, stored: NDArray[np.bool_], pointers: NDArray[np.int64], values: Values,
    preset: Preset, counts: Counts, notes: list[str],
) -> Summary:  # fmt: skip
    cells, genes, chosen = int(kept.cells.sum()), int(stored.sum()), int(job.cells.chosen.sum())
    return Summary(
        source=job.source.name,
        source_cells=len(job.source.obs),
        source_genes=len(job.source.var),
        cells=cells,
        genes=genes,
        filled=values.entries / (chosen * len(job.source.var)),
        density=int(pointers[-1]) / (cells * genes),
        values=values,
        value_kind=job.source.judged.kind,
        preset=preset,
        orientation=job.source.orientation,
        orientation_from=job.source.orientation_from,
        names=describe_names(list(job.source.var.index), job.symbols),
        dropped_cells=chosen - cells,
        dropped_genes=len(job.source.var) - int(kept.genes.sum()),
        counts_kept=counts != "unknown",
        notes=(*job.notes, *notes, *_chosen_notes(job, kept, genes)),
    )


def _near_empty(job: Intake, survey: Facts) -> str:
    """A warning where many barcodes hold next to nothing; counts only, as normalised cells all hold the same."""
    totals, choices = survey.cells["total"], job.choices
    if "counts" not in job.source.judged.kind or totals.size < FULL_BARCODES or choices.min_genes > 1:
        return ""
    full = np.partition(totals, -FULL_BARCODES)[-FULL_BARCODES]
    empty = int((totals < NEAR_EMPTY * full).sum())
    if empty < NEAR_EMPTY_SHARE * totals.size:
        return ""
    return (
        f"warning: {empty:,} of {totals.size:,} barcodes hold less than {NEAR_EMPTY * full:,.3g} molecules and others "
        f"{full:,.4g}, as empty droplets of an unfiltered matrix do: give the filtered matrix, or leave them out with "
        "--min-genes 200"
    )


def _chosen_notes(job: Intake, kept: Filtered, genes: int) -> list[str]:
    """What was left aside because the user asked for it."""
    notes, chosen = list[str](), int(job.cells.chosen.sum())
    if job.choices.cells is not None:
        notes.append(f"{chosen:,} of {len(job.source.obs):,} cells meet {job.choices.cells}")
    if genes < kept.genes.sum():
        what = "candidates for pairs; cells were normalised over all genes before"
        notes.append(f"{genes:,} of the {int(kept.genes.sum()):,} genes are stored, as {what}")
    return notes


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────────


def _begin_store(plan: _Plan, place: Workplace) -> None:
    """Everything but the entries, unless an interrupted run has done so."""
    done = place.path / "begun"
    if done.exists():
        return
    shutil.rmtree(place.store, ignore_errors=True)
    root = write_annotations(place.store, plan.obs, plan.var, plan.uns)
    shape = int(plan.kept.cells.sum()), int(plan.stored.sum())
    for matrix, pointers in zip(plan.writing.matrices, plan.pointers, strict=True):
        create_matrices(root, shape, pointers, matrix.layout)
    genes = np.flatnonzero(plan.kept.genes)
    np.save(place.path / "cells.npy", np.flatnonzero(plan.kept.cells))
    np.save(place.path / "genes.npy", genes)
    np.save(place.path / "stored.npy", np.flatnonzero(plan.stored[genes]))
    write_file(done, json.dumps(list(shape)).encode())


def _write(plan: _Plan, place: Workplace, session: Session) -> None:
    """Every shard that has no receipt yet."""
    session.progress.start("writing entries", sum(int(pointers[-1]) for pointers in plan.pointers))
    tasks = []
    for number, (matrix, pointers) in enumerate(zip(plan.writing.matrices, plan.pointers, strict=True)):
        for piece in pieces(pointers, matrix.layout.shard):
            if is_written(plan.writing, (number, piece)):
                first = piece.shard * matrix.layout.shard
                session.progress.advance(min(first + matrix.layout.shard, int(pointers[-1])) - first)
            else:
                tasks.append((number, piece))
    for _, written in run_on_source(session, write_piece, tasks, plan.writing):
        session.progress.advance(written)
    clear_unfinished(place.store)
    mark_expression(place.store)


# ── memory of a task ─────────────────────────────────────────────────────────────────────────────────────────────────

INGESTING = "ingesting a block of cells"
SOURCE_BYTES = 16 + 2 * CSR_BYTES  # an entry as it lies in the source, as float32 CSR, and mended

NORMALISED_BYTES = 3 * CSR_BYTES  # an entry as it is read, as scanpy's copy, and as it is cut to the genes stored

STORED_BYTES = 4 * SHARD_BYTES  # an entry in the shards of data and indices, and as they are read back


def ingest_bytes(n_genes: int, entries: int) -> int:
    """Memory of one task of an ingest, scan or shard, on top of the idle worker, at most.

    Parameters
    ----------
    entries
        Of the fullest block of cells, or of a shard.
    """
    return entries * (SOURCE_BYTES + NORMALISED_BYTES + STORED_BYTES) + 512 * n_genes
