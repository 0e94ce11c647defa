"""Foretell what a heatmap job costs: planned like the job, and measured on a few of its images.

Some thousands of pairs, spread over all of them by how many cells express both genes, are counted and written to a
scratch store by the workers at hand, exactly as the job would do it. A matrix that is not encoded yet is encoded for a
sample of its cells, and what grows with the cells is scaled up.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes.binning import bin_edges, gene_statistics
from pairscape.pipeline.codes.encode import encoded_before, encoding_bytes
from pairscape.pipeline.codes.store import CHUNK_GENES, Codes, add_edges, create_codes, open_codes, write_block
from pairscape.pipeline.compute.memory import WORKER_BASE_BYTES
from pairscape.pipeline.compute.opening import worker_threads
from pairscape.pipeline.compute.progress import duration
from pairscape.pipeline.compute.session import Session, Usage
from pairscape.pipeline.compute.tasks import on_every_worker, run_tasks
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.count import Spent, count_task
from pairscape.pipeline.heatmaps.images import GroupSpec, ImageSpec
from pairscape.pipeline.heatmaps.job import Request, plan_count
from pairscape.pipeline.heatmaps.layout import create_images
from pairscape.pipeline.heatmaps.memory import Portion, portion
from pairscape.pipeline.heatmaps.tiles import Rates, Sample, Task, pair_events, spread_runs, storage_order, tiles_of
from pairscape.pipeline.matrix.cell_groups import CellGroups
from pairscape.pipeline.matrix.expression import Expression, block_digest
from pairscape.pipeline.options import CODES_CELLS, Binning

T = TypeVar("T")
SAMPLES, SAMPLE_PAIRS = 32, 1024  # runs of pairs that stand for all, each of a few genes a with a block of genes b
SAMPLE_RUNS = 64  # of cells that follow each other
SAMPLE_CELLS = CODES_CELLS  # cells that stand for all of a matrix that is not encoded yet: one block of codes


@dataclass(frozen=True)
class Tried:
    """What a network takes, in seconds of one worker.

    Attributes
    ----------
    network
        Its name; "" where none was tried.
    pair
        For one pair that is counted: its statistics, and the network.
    strata, decoys
        For the strata within which cells are compared, and for all decoys together; 0 where there are none.
    loading
        Until it, and what runs it, are loaded; every worker does that at the same time.
    task_bytes
        Memory of a task for all else than counting, at most.
    """

    network: str = ""
    pair: float = 0.0
    strata: float = 0.0
    decoys: float = 0.0
    loading: float = 0.0
    task_bytes: int = 0


Scoring = Callable[[Codes, Pairs, int, Path, Session], Tried]
"""Tries a network: of codes, candidates, the number of cells of the job, a folder for what it writes, a session."""
REPORT_SECONDS, ROW_SECONDS = 2.0, 3e-6  # of a report, and a row of scores in its file, where counting is as foreseen


@dataclass(frozen=True, repr=False)
class Plan:
    """Cost of a heatmap job; its figures are attributes, and it shows itself as a table.

    Attributes
    ----------
    pairs, cells, shards, tasks, workers
        Counts.
    matrix_cells, shard_pairs
        Cells of the matrix, counted or not; pairs in a shard.
    groups
        Of cells that are counted apart: images of each pair; 1 where all cells are counted together.
    store_bytes
        Size of the image store on disk.
    task_bytes
        Memory that a task takes on top of the idle worker, at most, to encode and to count.
    worker_bytes
        Memory that each worker thread may use; None: no limit.
    cells_at_once
        Cells that a task counts in one go; more are counted slab by slab, in the same memory. So any number of cells
        and pairs is a job under any limit that is not refused.
    most_bins
        Bins of the largest images that fit into the workers.
    encode_seconds
        Time to encode the matrix first; 0 if that was done before.
    seconds
        Time to count and write all images.
    network
        The network that would score the pairs; "" where that was not tried.
    score_seconds, decoy_seconds
        Time to load the network, count the pairs and score them without storing an image, and for the decoys of their
        q-values.
    report_seconds
        Time to write scores and report.
    score_bytes
        Memory of a task that counts and scores, at most; with room for decoys where there are some.
    start_seconds
        Time to read what is asked for, to start the workers and to stop them; part of every job.
    """

    pairs: int
    cells: int
    shards: int
    tasks: int
    workers: int
    store_bytes: int
    task_bytes: int
    worker_bytes: int | None
    cells_at_once: int
    most_bins: int
    encode_seconds: float
    seconds: float
    matrix_cells: int
    shard_pairs: int
    groups: int = 1
    network: str = ""
    score_seconds: float = 0.0
    decoy_seconds: float = 0.0
    report_seconds: float = 0.0
    score_bytes: int = 0
    start_seconds: float = 0.0

    @property
    def heatmaps_seconds(self) -> float:
        """All of `heatmaps`."""
        return self.start_seconds + self.encode_seconds + self.seconds

    @property
    def predict_seconds(self) -> float:
        """All of `predict`."""
        parts = self.encode_seconds, self.score_seconds, self.decoy_seconds, self.report_seconds
        return self.start_seconds + sum(parts)

    def lines(self) -> list[str]:
        """What a user is told of it."""
        encoding = f"{duration(self.encode_seconds)} to encode"
        decoys = f", {duration(self.decoy_seconds)} for decoys (q-values)" if self.decoy_seconds else ""
        scores = [
            f"predict          about {duration(self.predict_seconds)} with {self.network}, which stores no image: "
            f"{encoding}, {duration(self.score_seconds)} to count and score{decoys}, "
            f"{duration(self.report_seconds)} for file and report"
        ]
        score = f" ({self.score_bytes / 1e6:,.0f} MB to score)" if self.network else ""
        idle = f"{WORKER_BASE_BYTES / 1e6:,.0f} MB"
        limit = f"; a worker may take {self.worker_bytes / 1e6:,.0f} MB" if self.worker_bytes else ""
        return [
            f"pairs            {self.pairs:,}" + (f", in each of {self.groups} groups" if self.groups > 1 else ""),
            f"cells            {self.cells:,} of {self.matrix_cells:,}, {self.cells_at_once:,} at once",
            f"shards           {self.shards:,} of {self.shard_pairs:,} images",
            f"tasks            {self.tasks:,} for {self.workers} workers",
            f"image store      about {self.store_bytes / 1e6:,.0f} MB on disk",
            f"memory per task  at most {self.task_bytes / 1e6:,.0f} MB{score}, beside {idle} of an idle worker{limit}",
            f"heatmaps         about {duration(self.heatmaps_seconds)}: {encoding}, {duration(self.seconds)} to count",
            *(scores if self.network else ()),
            f"largest job      any number of cells and pairs, images of up to {self.most_bins} × {self.most_bins} bins",
        ]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def __getitem__(self, name: str) -> Any:
        """A figure by its name, as from the mapping that earlier versions returned."""
        return getattr(self, name)


def plan_heatmaps(
    expression: Expression,
    request: Request,
    binning: Binning,
    codes: Path | None,
    workers: int,
    session: Session,
    scoring: Scoring | None = None,
) -> Plan:
    """Plan a heatmap job and measure what its parts take here.

    Parameters
    ----------
    codes
        Code store, if the matrix was encoded before. Absent, or of something else: a sample of the cells is encoded.
    workers
        Threads that will do the work; those of the session measure for them.
    scoring
        Tries the network that would score the pairs. Absent: none is foretold.

    Raises
    ------
    InputError
        A worker has too little memory.
    """
    pairs, cells, limit = request.chosen.pairs, request.cells, session.memory
    portion(binning, cells.size, 1.0, limit, groups=request.n_groups)
    found = encoded_before(expression, codes, binning, cells) if codes is not None else None
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        if found is not None:
            encode_seconds, encode_bytes = (0.0, 0.0), 0
            rates = Rates.measured(_measure(found, pairs, request.groups, session, scratch))
        else:
            found, encode_seconds, rates = _scaled_up(expression, request, binning, session, scratch)
            encode_bytes = encoding_bytes(expression, cells, binning)
        full = replace(found, n_cells=cells.size)
        shards = range(-(-len(pairs) // binning.shard_pairs))
        share, tasks, seconds = plan_count(full, pairs, shards, limit, workers, rates, request.n_groups)
        count_bytes = share.taken_bytes(full.n_entries)
        reading = rates.chunk * _chunk_reads(tasks, pairs, workers, share.keeps(full.n_entries))
        tried = _tried(scoring, found, request, session, scratch / "network")
        counting = float(seconds.sum()) - rates.writing * len(pairs) * request.n_groups + reading
    return Plan(
        pairs=len(pairs),
        cells=request.n_counted,
        shards=len(shards),
        tasks=len(tasks),
        workers=workers,
        store_bytes=int(rates.image_bytes * len(pairs) * request.n_groups),
        task_bytes=max(encode_bytes, count_bytes),
        score_bytes=max(encode_bytes, count_bytes + tried.task_bytes) if tried.network else 0,
        worker_bytes=limit,
        cells_at_once=share.cells,
        most_bins=_most_bins(cells.size, limit),
        encode_seconds=encode_seconds[0] * _share_of_slowest(cells.size, workers) + encode_seconds[1],
        seconds=rates.loading + (float(seconds.sum()) + reading) / workers,
        matrix_cells=expression.n_cells,
        shard_pairs=binning.shard_pairs,
        groups=request.n_groups,
        network=tried.network,
        score_seconds=_score_seconds(tried, counting, len(pairs) * _layers(request), workers),
        decoy_seconds=tried.decoys * _layers(request) / workers,
        report_seconds=rates.counting * (REPORT_SECONDS + ROW_SECONDS * len(pairs) * _layers(request)),
    )


def _share_of_slowest(n_cells: int, workers: int) -> float:
    """Share of the cells that the busiest worker encodes: whole blocks of them."""
    blocks = -(-n_cells // CODES_CELLS)
    rounds = -(-blocks // workers)
    return min(1.0, rounds * CODES_CELLS / n_cells)


def _score_seconds(tried: Tried, counting: float, images: int, workers: int) -> float:
    return tried.loading + (counting + tried.strata + tried.pair * images) / workers if tried.network else 0.0


def _tried(scoring: Scoring | None, codes: Codes, request: Request, session: Session, folder: Path) -> Tried:
    if scoring is None:
        return Tried()
    session.progress.start("trying network", 1)
    found = scoring(codes, request.chosen.pairs, request.cells.size, folder, session)
    session.progress.advance(1)
    return found


def _layers(request: Request) -> int:
    """How often a prediction scores each pair: by each group of cells, and by all together."""
    return 1 if request.groups is None else 1 + request.n_groups


def _measure(codes: Codes, pairs: Pairs, groups: CellGroups | None, session: Session, scratch: Path) -> Sample:
    """The job itself, on a sample of the pairs, all workers at once: cold for what they load, warm for the rest."""
    events = pair_events(pairs, 1 - codes.array("dropout"), codes.n_cells)
    rows = np.concatenate([np.r_[run] for run in spread_runs(events, SAMPLES, SAMPLE_PAIRS)])
    some = storage_order(pairs.take(rows))  # of fewer genes, so in other blocks
    cells, of_groups = (codes.n_cells, None) if groups is None else (int(groups.cells.sum()), GroupSpec.of(groups))
    spec = ImageSpec(codes.path, codes.content_hash, codes.binning, cells, len(some), some.content_hash(), of_groups)
    number = 1 if groups is None else len(groups.names)
    target = scratch / f"{codes.n_cells}.images.zarr"
    create_images(target, spec, some, codes, {}, groups=groups)
    threads = worker_threads(session.client)
    share, _, _ = plan_count(codes, some, range(spec.n_shards), session.memory, threads, Rates(), number)
    tiles = tiles_of(some.gene_b, codes.binning.shard_pairs)
    shares = np.array_split(np.arange(spec.n_shards), min(threads, spec.n_shards))
    tasks = [Task(tuple(shards.tolist()), tuple(tiles[shard] for shard in shards)) for shards in shares]
    session.progress.start("measuring", 2 * len(some))
    spent, log = (Spent(), Spent()), session.usage.events
    usage = Usage(events=log), Usage(events=log)
    for turn in (0, 1):  # another portion: a worker reads its genes anew
        measured, portion = replace(session, usage=usage[turn]), replace(share, task_bytes=share.task_bytes - turn)
        for task, (cost, compiling) in run_tasks(measured, _count_timed, tasks, str(target), codes.path, portion):
            session.progress.advance(sum(len(spec.shard_rows(shard)) for shard in task.shards))
            spent[turn].add(cost)
            usage[turn].busy_seconds -= compiling
    warm = spent[1]
    return Sample(
        images=len(some) * number,
        events=float(events[rows].sum(dtype=np.float64)),
        counting=warm.counting,
        writing=usage[1].busy_seconds - warm.counting - warm.reading,  # and whatever else a task does
        reading=warm.reading,
        chunks_read=warm.chunks_read,
        n_bytes=warm.bytes_written,
        loading=max(usage[0].busy_seconds - usage[1].busy_seconds, 0.0) / len(tasks),
    )


def _count_timed(target: str, codes_path: str, portion: Portion, task: Task) -> tuple[Spent, float]:
    """As the job counts, and the seconds that went into compiling, which the job will find done."""
    return timed_without_compiling(count_task, target, codes_path, portion, task)[::2]


def timed_without_compiling(function: Callable[..., T], *arguments: Any) -> tuple[T, float, float]:
    """A result, its seconds without compiling, and those of compiling, which is done once on a machine and kept."""
    from numba.core.event import install_timer

    started = time.perf_counter()
    with install_timer("numba:compile", lambda _: None) as timer:
        result = function(*arguments)
    compiling = timer.duration if timer.done else 0.0
    return result, time.perf_counter() - started - compiling, compiling


def _scaled_up(
    expression: Expression,
    request: Request,
    binning: Binning,
    session: Session,
    scratch: Path,
) -> tuple[Codes, tuple[float, float], Rates]:
    """Codes of some of the cells; the seconds of one worker to encode all, and to load what does; the rates for all."""
    cells, pairs = request.cells, request.chosen.pairs
    sizes = [min(cells.size, SAMPLE_CELLS), min(cells.size, SAMPLE_CELLS) // 4]
    loading = _loading_seconds(expression, binning, cells, session)
    codes, seconds = _sampled_codes(expression, scratch / "codes.zarr", binning, cells, sizes[0])
    groups = _sampled_groups(request, sizes[0])
    seconds *= cells.size / sizes[0]
    rates = Rates.measured(sample := _measure(codes, pairs, groups, session, scratch))
    growth = cells.size / sizes[0]
    rates = replace(rates, chunk=rates.chunk * growth)
    if growth > 1:  # an image's bytes grow with a power of the cells, about the fourth root
        fewer, _ = _sampled_codes(expression, scratch / "fewer.codes.zarr", binning, cells, sizes[1])
        less = _measure(fewer, pairs, _sampled_groups(request, sizes[1]), session, scratch)
        power = math.log(max(sample.n_bytes / less.n_bytes, 1)) / math.log(sizes[0] / sizes[1])
        rates = replace(rates, image_bytes=rates.image_bytes * growth**power)
    return codes, (seconds, loading), rates


def _loading_seconds(expression: Expression, binning: Binning, cells: NDArray[np.int64], session: Session) -> float:
    """Until every worker has loaded what encodes; compiling is done once on a machine."""
    begun = time.perf_counter()
    compiling = list(on_every_worker(session.client, _load_encoding, expression, binning, cells))
    return max(time.perf_counter() - begun - max(compiling), 0.0)


def _load_encoding(expression: Expression, binning: Binning, cells: NDArray[np.int64]) -> float:
    """Encode two cells on a worker; seconds of compiling."""
    with TemporaryDirectory() as folder:
        return timed_without_compiling(_sampled_codes, expression, Path(folder, "codes.zarr"), binning, cells, 2)[2]


def _sampled_codes(
    expression: Expression, path: Path, binning: Binning, cells: NDArray[np.int64], size: int
) -> tuple[Codes, float]:
    """Codes of some cells in one block, and the seconds of one worker to make those of as many as the job does.

    The job reads cells that follow each other, and the matrix twice, for the content hash with statistics, and for the
    codes; where quantiles of the cells place the edges, once more.
    """
    chosen = cells[sampled_cells(cells.size, size)]
    rows, started = expression.select(chosen), time.perf_counter()
    expression.select(cells[:size])
    again = (time.perf_counter() - started) * (2 if binning.scale in ("rank", "quantile") else 1)
    block_digest(rows)
    statistics = gene_statistics(rows.data, rows.indices, rows.shape[1], rows.shape[0])
    columns = rows.tocsc()
    values = [columns.data[a:b] for a, b in zip(columns.indptr[:-1], columns.indptr[1:], strict=True)]
    create_codes(path, expression.genes, chosen)
    add_edges(path, path.name, binning, bin_edges(binning, statistics, values), statistics, {})
    write_block(str(path), columns, 0)
    return open_codes(path), time.perf_counter() - started + again


def _sampled_groups(request: Request, size: int) -> CellGroups | None:
    """Groups of the same cells."""
    if request.groups is None:
        return None
    return replace(request.groups, number=request.groups.number[sampled_cells(request.cells.size, size)])


def sampled_cells(n_cells: int, size: int) -> NDArray[np.int64]:
    """So many cells, ascending, in runs at even distances: to read single ones, all of a matrix would be unpacked."""
    cell = np.arange(size)
    run = cell // -(-size // SAMPLE_RUNS)
    return cell + (run * (n_cells - size) // max(int(run[-1]), 1))


def _most_bins(n_cells: int, limit: int | None) -> int:
    def fits(bins: int) -> bool:
        try:
            portion(Binning(bins=bins), n_cells, 1.0, limit)
        except InputError:
            return False
        return True

    return max(bins for bins in range(2, 256) if fits(bins))


def _chunk_reads(tasks: list[Task], pairs: Pairs, workers: int, kept: bool) -> int:
    """Chunks of genes that will be read: those of genes a once a worker, those of genes b too if all genes are kept.

    Where they are not, those of genes b are read for every task.
    """
    if kept:
        genes = np.union1d(pairs.gene_a, pairs.gene_b)
        return min(workers, len(tasks)) * np.unique(genes // CHUNK_GENES).size
    blocks = [{tile.genes_b for tiles in task.tiles for tile in tiles} for task in tasks]
    chunks_b = sum(len({gene // CHUNK_GENES for gene in genes}) for task in blocks for genes in task)
    return chunks_b + min(workers, len(tasks)) * np.unique(pairs.gene_a // CHUNK_GENES).size
