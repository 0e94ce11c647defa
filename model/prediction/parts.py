"""A worker's task of a prediction: images of some pairs, counted or read; their statistics and scores; a part file.

A part is a fixed run of the candidate pairs, and the network sees its pairs in batches of its own: so a part holds the
same bytes in any task and on any worker. Tasks carry names and numbers; pairs are read from the job's folder, images
never touch the disk.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairscape.model.evaluation.association import associations
from pairscape.model.evaluation.metrics import forward_share
from pairscape.model.networks.bundled import run_folder
from pairscape.model.networks.classifier import TrainedNetwork
from pairscape.model.networks.device import one_thread
from pairscape.model.networks.fast import Scorer
from pairscape.model.prediction.rescoring import Score
from pairscape.model.prediction.within import GroupLayer, Within
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.allocator import keep_freed_memory
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.count import PAIR, Spent, count_groups, warm_up, writing_behind
from pairscape.pipeline.heatmaps.gene_reader import GeneReader, held_reader
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.memory import Portion
from pairscape.pipeline.heatmaps.read import read_images
from pairscape.pipeline.heatmaps.strata import StratifiedMargins
from pairscape.pipeline.heatmaps.tiles import Task
from pairscape.pipeline.storage.receipts import Receipt, write_receipted
from pairscape.pipeline.storage.write import replaced

DIRECTED = 3  # classes of a network that gives the direction
PART_PAIRS = 2048  # candidates in a part: half a second of the network; what a kill may cost
COLUMNS = np.dtype([(name, "<f4") for name in (
    "score", "forward", "kind", "kind_probability", "dependence", "correlation",
)])  # fmt: skip
"""`kind` is the number of a kind in `KINDS`. NaN where there is no value."""

Images = tuple[NDArray[np.integer], NDArray[np.integer]]
"""Joint counts, (P, bins, bins), and cells in which neither gene is expressed, (P,)."""


@dataclass(frozen=True)
class Parts:
    """The candidates and their scores on disk while a job is under way: folder, number of pairs, pairs of a part.

    The parts of a group of cells lie in a folder of their own, `layer`.
    """

    folder: str
    n_pairs: int
    size: int = PART_PAIRS
    layer: str = ""

    def __len__(self) -> int:
        return -(-self.n_pairs // self.size)

    def rows(self, part: int) -> range:
        """The candidates of a part."""
        return range(part * self.size, min((part + 1) * self.size, self.n_pairs))

    def n_rows(self, parts: Iterable[int]) -> int:
        """Candidates of some parts together."""
        return sum(len(self.rows(part)) for part in parts)

    def save_pairs(self, pairs: Pairs) -> None:
        """Write the candidates for the tasks."""
        for name in PAIR:
            np.save(self._pair_file(name), getattr(pairs, name))
        np.save(self._pair_file("regulators"), np.unique(pairs.gene_a))

    def pair_columns(self) -> dict[str, NDArray[np.int32]]:
        """`gene_a` and `gene_b`, (P,) each, of which only the rows that are looked at are read."""
        return {name: np.load(self._pair_file(name), mmap_mode="r") for name in PAIR}

    def regulators(self) -> NDArray[np.int32]:
        """Genes a of the pairs, each once, ascending."""
        return np.asarray(np.load(self._pair_file("regulators")))

    def save_described(self, gene: NDArray[np.int64], described: NDArray[np.float32]) -> None:
        """Write features of genes, (G, F), for the tasks; whole or not at all."""
        np.save(self._pair_file("described_gene"), gene)
        with replaced(self._pair_file("described")) as part, part.open("wb") as file:
            np.save(file, described)

    @property
    def has_described(self) -> bool:
        """Whether the features of genes are written."""
        return self._pair_file("described").exists()

    def described(self, genes: NDArray[np.integer]) -> Callable[[slice], NDArray[np.float32]]:
        """A function from a slice of some pairs, (P, 2) genes of the matrix, to features (B, 2, F)."""
        described = np.load(self._pair_file("described"), mmap_mode="r")
        at = np.searchsorted(np.load(self._pair_file("described_gene")), genes)
        return lambda some: np.asarray(described[at[some]])

    def missing(self) -> list[int]:
        """Parts without a receipt that fits them."""
        return [part for part in range(len(self)) if not self._receipt(part).is_valid()]

    def write(self, part: int, columns: NDArray[Any]) -> int:
        """Write a part and its receipt; returns the bytes on disk. JobError where what is read back differs."""
        return write_receipted(self._receipt(part), {"columns": columns.tobytes()})

    def read(self, parts: Iterable[int]) -> NDArray[Any]:
        """Columns of some parts, one after the other: (P,) of `COLUMNS`. JobError where a part cannot be read."""
        try:
            return np.concatenate([self._columns(part) for part in parts])
        except (OSError, ValueError) as error:
            raise JobError(f"a part in {self.folder} cannot be read ({error}); run the same command again.") from error

    def _columns(self, part: int) -> NDArray[Any]:
        return np.frombuffer(self._file(part).read_bytes(), COLUMNS, len(self.rows(part)))

    def _pair_file(self, name: str) -> Path:
        return Path(self.folder, f"{name}.npy")

    def _file(self, part: int) -> Path:
        return Path(self.folder, self.layer, "parts", f"{part}.bin")

    def _receipt(self, part: int) -> Receipt:
        facts = {"part": part, "rows": [self.rows(part).start, self.rows(part).stop]}
        return Receipt(Path(self.folder, self.layer, "receipts", f"{part}.json"), facts, {"columns": self._file(part)})


@dataclass(frozen=True)
class Job:
    """What all tasks of a prediction share.

    Parameters
    ----------
    parts
        Where the pairs lie and the parts go.
    run, network
        Name of the trained network (`TrainedRun.name`), and sha256 of its weights when the job began.
    prior
        Share of edges among the candidates.
    device
        `auto`, `cpu`, `cuda` or `mps`; each worker chooses for itself.
    codes, images
        Path of the code store that is counted, or else of the image store that is read.
    portion
        How much of the codes is held at once; None where nothing is counted.
    parts_at_once
        Parts that are counted together, so that codes that do not fit in memory are read once for all of them.
    threshold
        Dependence from which a pair goes to the network; None: all do.
    describes
        Whether the network `knows_genes`: their features lie beside the pairs.
    within
        Strata within which cells are compared; None: all cells are.
    group
        Of cells, by which alone pairs are scored; None: by all cells.
    """

    parts: Parts
    run: str
    network: str
    prior: float
    device: str
    codes: str | None
    images: str | None
    portion: Portion | None
    parts_at_once: int
    threshold: float | None
    describes: bool
    within: Within | None = None
    group: GroupLayer | None = None

    def reader(self) -> GeneReader:
        """The genes of the codes as a worker holds them."""
        assert self.codes is not None
        assert self.portion is not None
        groups = None if self.group is None else self.group.groups()
        return held_reader(open_codes(Path(self.codes)), self.portion, groups)

    @property
    def needs_genes(self) -> bool:
        """Whether a pair is scored by more than its image."""
        return self.describes or self.within is not None

    def margins(self, genes: NDArray[np.integer] | None) -> StratifiedMargins | None:
        """Margins by stratum of pairs, (P, 2) genes; None where all cells are compared."""
        return None if self.within is None or genes is None else self.within.of(genes[:, 0], genes[:, 1])


@dataclass
class Cost(Spent):
    """Seconds of a task, also in statistics (`deriving`) and in the network (`scoring`), and pairs that it scored."""

    deriving: float = 0.0
    scoring: float = 0.0
    scored: int = 0


# ── on the workers ───────────────────────────────────────────────────────────────────────────────────────────────────


def score_task(job: Job, task: Task) -> Cost:
    """Score and write the parts of one task. Runs on a worker, any number of times.

    Raises
    ------
    JobError
        The network is another one than when the job began; codes or images are damaged; what is written reads
        otherwise.
    """
    cost = Cost()
    # one thread of each worker: sums of floats depend on how many share them
    with one_thread(), writing_behind(cost) as write:
        for start in range(0, len(task.shards), job.parts_at_once):
            group, at = slice(start, start + job.parts_at_once), 0
            counts, both_zero = _count(job, task, group, cost) if job.codes else _read(job, task.shards[group], cost)
            for part in task.shards[group]:
                own = slice(at, at + len(job.parts.rows(part)))
                columns = score_images(job, (counts[own], both_zero[own]), _genes(job, part), cost)
                write(_write, job.parts, part, columns)
                at = own.stop
    return cost


def _write(parts: Parts, part: int, columns: NDArray[Any]) -> Spent:
    started = time.perf_counter()
    n_bytes = parts.write(part, columns)
    return Spent(bytes_written=n_bytes, writing=time.perf_counter() - started)


def _count(job: Job, task: Task, group: slice, cost: Cost) -> Images:
    genes, reader = job.parts.pair_columns(), job.reader()
    before, tiles = reader.chunks_read, [t for tiles in task.tiles[group] for t in tiles]
    own = 0 if job.group is None else job.group.number
    counts, both_zero = count_groups(reader, tiles, lambda n, a, b: genes[n][a:b], cost, range(own, own + 1))
    cost.chunks_read += reader.chunks_read - before
    return counts[0], both_zero[0]


def _genes(job: Job, part: int) -> NDArray[np.int32] | None:
    """Genes of a part's pairs, (P, 2), where the network asks for them."""
    if not job.needs_genes:
        return None
    rows, columns = job.parts.rows(part), job.parts.pair_columns()
    return np.stack([columns[name][rows.start : rows.stop] for name in PAIR], axis=1)


def _read(job: Job, parts: tuple[int, ...], cost: Cost) -> Images:
    assert job.images is not None
    started = time.perf_counter()
    images = open_images(job.images, complete=False)
    rows = np.concatenate([np.r_[rows.start : rows.stop] for rows in map(job.parts.rows, parts)])
    found = read_images(images, rows)
    cost.reading += time.perf_counter() - started
    return found


def score_images(job: Job, images: Images, genes: NDArray[np.integer] | None, cost: Cost) -> NDArray[Any]:
    """Statistics of the counts, and answers of the network, (P,) of `COLUMNS`; the latter NaN where it is not run.

    Pairs that the screen keeps from the network are left out before batches are made of the others.
    """
    started, (counts, both_zero) = time.perf_counter(), images
    counts, columns = np.ascontiguousarray(counts, np.uint32), np.full(len(counts), np.nan, COLUMNS)
    within = job.margins(genes)
    columns["correlation"], columns["dependence"] = associations(counts, within)
    derived = time.perf_counter()
    kept = np.arange(len(counts)) if job.threshold is None else np.flatnonzero(columns["dependence"] >= job.threshold)
    if kept.size:
        chosen = (counts, both_zero) if kept.size == len(counts) else (counts[kept], both_zero[kept])
        described = job.parts.described(genes[kept]) if job.describes and genes is not None else None
        within = None if within is None else within.take(kept)
        for name, values in answers(held_scorer(job), chosen, described, within)._asdict().items():
            columns[name][kept] = values
    cost.deriving += derived - started
    cost.scoring += time.perf_counter() - derived
    cost.scored += kept.size
    return columns


class Answers(NamedTuple):
    """What a network says of pairs, (P,) each.

    Attributes
    ----------
    score
        Probability of an edge.
    forward
        The share of it that points from gene a to gene b; NaN of a network without direction.
    kind, kind_probability
        Number of the likeliest kind in `KINDS`, and its share of the probability of an edge; NaN of a network without
        kinds.
    """

    score: NDArray[np.float64]
    forward: NDArray[np.float64]
    kind: NDArray[np.float64]
    kind_probability: NDArray[np.float64]


def answers(
    scorer: Scorer,
    images: Images,
    described: Callable[[slice], NDArray[np.float32]] | None = None,
    within: StratifiedMargins | None = None,
) -> Answers:
    """What a network says of pairs.

    The score is summed over the classes with an edge rather than 1 less that of none, whose last digits would tie small
    scores. `described` gives features of a slice of the pairs, for a network that `knows_genes`; `within` has the
    margins by stratum where cells are compared within strata.
    """
    classes = scorer(*images, described, within)
    score = classes[:, 1:].sum(axis=1)
    # where a network blew up, the score is what is expected of any pair
    score = np.where(np.isfinite(score), score, scorer.prior)
    unknown = np.full(score.size, np.nan)
    if classes.shape[1] == len(KINDS):
        return Answers(score, unknown, *likeliest_kind(classes))
    return Answers(score, forward_share(classes) if classes.shape[1] == DIRECTED else unknown, unknown, unknown)


def likeliest_kind(classes: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Number in `KINDS` of the likeliest kind but none, and its share of them all: (P, 7) to (P,) each.

    NaN where no kind is possible.
    """
    kinds = classes[:, 1:].astype(np.float64)
    total, best = kinds.sum(axis=1), kinds.argmax(axis=1)
    known = np.isfinite(total) & (total > 0)
    share = np.divide(kinds.max(axis=1), total, out=np.full(total.size, np.nan), where=known)
    return np.where(known, best + 1.0, np.nan), share


def load_score(job: Job, *, screened: bool) -> Score:
    """A function that scores decoys and resamples: NaN where the screen, if `screened`, would stop a pair."""
    threshold = job.threshold if screened else None

    def score(
        counts: NDArray[Any], both_zero: NDArray[Any], gene_a: NDArray[np.integer], gene_b: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        counts, found = np.ascontiguousarray(counts, np.uint32), np.full(len(counts), np.nan)
        kept, genes = np.arange(len(counts)), np.stack([gene_a, gene_b], axis=1)
        within = job.margins(genes)
        if threshold is not None:
            statistic = associations(counts, within)[1].astype(np.float32)  # as a part has it
            kept = np.flatnonzero(statistic >= threshold)
        if kept.size:
            described = job.parts.described(genes[kept]) if job.describes else None
            within = None if within is None else within.take(kept)
            with one_thread():
                found[kept] = answers(held_scorer(job), (counts[kept], both_zero[kept]), described, within).score
        return found

    return score


_held: dict[tuple[str, float, str, bool], Scorer] = {}  # the network of the last job of this process


def _key(job: Job) -> tuple[str, float, str, bool]:
    return job.network, job.prior, job.device, job.within is not None


def hold_scorer(job: Job, network: TrainedNetwork) -> Scorer:
    """Make the network of a job ready to score, for all tasks of this process."""
    scorer = Scorer.of(network, job.prior, job.device if job.within is None else "cpu")
    _held.clear()
    _held[_key(job)] = scorer
    return scorer


def held_scorer(job: Job) -> Scorer:
    """The network of a job, read once a process; threads of one process share it, as scoring changes nothing in it.

    Raises
    ------
    JobError
        Another one lies there than when the job began.
    """
    if (scorer := _held.get(_key(job))) is not None:
        return scorer
    network = TrainedNetwork.load(run_folder(job.run))
    if network.sha256 != job.network:
        raise JobError(f"{job.run} holds another network than when this job began; run the same command again for it.")
    keep_freed_memory()
    return hold_scorer(job, network)


def prepare(job: Job) -> Cost:
    """Load network, compiled code and genes before the first task, so that the tasks that are timed only score."""
    cost, bins = Cost(), held_scorer(job).classifier.bins
    blank = np.zeros((1, bins, bins), np.uint32), np.zeros(1, np.uint32)
    genes = None if job.within is None else np.stack([job.parts.regulators()[:1]] * 2, axis=1)
    with one_thread():
        score_images(replace(job, threshold=np.inf), blank, genes, Cost())
        if not job.describes:
            answers(held_scorer(job), blank, within=job.margins(genes))
    if job.codes:
        warm_up()
        started, reader = time.perf_counter(), job.reader()
        before = reader.chunks_read
        reader.read_ahead(job.parts.regulators())
        cost.reading, cost.chunks_read = time.perf_counter() - started, reader.chunks_read - before
    return cost
