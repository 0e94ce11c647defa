"""The prediction job: a trained network and the candidate pairs of a matrix → their scores, in one file.

No image is stored: a task counts a run of pairs and scores it at once (`model.prediction.parts`). What is worth knowing
before much is spent comes first, from a random sample of the candidates: where the screen has to cut, and what that
costs. Everything grows in `.OUT.parquet.wip` beside the target, part by part with receipts, and the same command goes
on where it was interrupted.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pairscape.model.edges.scores import read_facts, write_scores
from pairscape.model.evaluation.evaluate import versions
from pairscape.model.evaluation.measure import find_shift
from pairscape.model.evaluation.sample import CountedPairs, codes_at_hand
from pairscape.model.evaluation.shift import UNCOMPARED, shift_lines
from pairscape.model.networks.classifier import describe_genes, gene_codes
from pairscape.model.networks.device import choose_device, one_thread
from pairscape.model.networks.gene_context import require_factor_genes, require_genes
from pairscape.model.networks.published import FACTOR_NETWORK
from pairscape.model.options import Prediction
from pairscape.model.prediction.candidates import Origin
from pairscape.model.prediction.confidence import Doubt, doubt_bytes, doubts
from pairscape.model.prediction.parts import (
    PART_PAIRS,
    Cost,
    Job,
    Parts,
    edge_scores,
    held_scorer,
    prepare,
    score_images,
    score_task,
)
from pairscape.model.prediction.scorer import AT_ONCE
from pairscape.model.prediction.screen import place_threshold, sample_rows, screen_facts, screen_line
from pairscape.model.prediction.trained import Trained
from pairscape.model.reports.findings import report_path, write_findings
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.clusters import worker_threads
from pairscape.pipeline.compute.memory import require_scoring_memory
from pairscape.pipeline.compute.progress import Say
from pairscape.pipeline.compute.session import Session, Usage
from pairscape.pipeline.compute.tasks import on_every_worker, run_tasks
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.images import Images, counted_codes
from pairscape.pipeline.heatmaps.job import Request
from pairscape.pipeline.heatmaps.memory import Portion, portion
from pairscape.pipeline.heatmaps.tiles import (
    Rates,
    Task,
    block_density,
    even_runs,
    pair_events,
    shard_seconds,
    tiles_of,
)
from pairscape.pipeline.matrix.expression import Expression
from pairscape.pipeline.storage.paths import local_target
from pairscape.pipeline.storage.workspace import workplace

TASK_SECONDS = 5.0  # of a task, if there is work enough
TASKS_PER_WORKER = 100  # a hundredth of a worker's share each: the time left is right early, and few wait at the end
TIMED_PAIRS = 512  # that tell how fast the network is here
DERIVING_SECONDS = 1e-5  # of one image: what the counts tell by themselves, and its place in a part
JOINED_PARTS = 512  # parts, a million pairs, in one row group of the file: what is held while they are joined
TORCH_BYTES = 350_000_000  # an idle worker that has loaded torch and a network, beyond one that has not
LIVE_MAPS = 160  # floats for each pixel of a batch, at the widest place of the widest network


@dataclass(frozen=True, eq=False)
class Asked:
    """What a user asks for, checked.

    Attributes
    ----------
    out
        File of scores to write, absolute.
    """

    trained: Trained
    out: Path
    options: Prediction
    seed: int

    @property
    def prior(self) -> float:
        """Share of edges among the candidates: as given, or the training's."""
        return self.trained.natural if self.options.prior is None else self.options.prior


@dataclass(frozen=True)
class Outcome:
    """How a prediction ended.

    Attributes
    ----------
    facts
        What the file says of itself.
    computed, kept
        Parts computed by this run, and found finished from an earlier one.
    cost
        Of the workers.
    usage
        What the workers measured of themselves.
    """

    facts: dict[str, Any]
    computed: int
    kept: int
    cost: Cost
    usage: Usage

    def lines(self, out: Path, seconds: float) -> list[str]:
        """The same to print."""
        n_pairs, spent = self.facts["pairs"]["n_pairs"], self.cost
        kept = f", {self.kept} kept from an earlier run" if self.kept else ""
        lines = [f"wrote {out}: {n_pairs:,} pairs; {self.computed} parts computed{kept}, {seconds:.0f} s"]
        if self.computed:
            lines.append(
                f"workers: {spent.reading:.1f} s reading, {spent.counting:.1f} s counting, {spent.deriving:.1f} s of "
                f"statistics, {spent.scoring:.1f} s in the network for {spent.scored:,} pairs; at most "
                f"{self.usage.peak / 1e9:.2f} GB of memory in one"
            )
        return lines


def ask(run: Path, out: str | Path, options: Prediction, seed: int, *, overwrite: bool) -> Asked:
    """Check what can be checked before any matrix is opened; nothing is written.

    Raises
    ------
    InputError
        As `model.prediction.trained.Trained.open`; no prior; decoys or resamples are asked of a network that knows the
        genes' loadings; `out` does not end in .parquet, exists and may not be replaced, or is something else than a
        file of scores; the device is not there.
    """
    choose_device(options.device)
    asked = Asked(Trained.open(run), local_target(out).absolute(), options, seed)
    _ = asked.prior, asked.trained.binning
    _check_doubt(asked)
    _check_target(asked.out, overwrite=overwrite)
    return asked


def _check_doubt(asked: Asked) -> None:
    if asked.options.doubted and asked.trained.facts["network"] == FACTOR_NETWORK:
        raise InputError(
            f"{asked.trained.run} is a {FACTOR_NETWORK}, which knows the genes' loadings over all cells: a decoy or a "
            "resample would keep those of the real pair, and its q-values and spreads would mean nothing; leave out "
            "--q-values and --bootstrap, or train another --network."
        )


def _check_target(out: Path, *, overwrite: bool) -> None:
    if out.suffix != ".parquet":
        raise InputError(f"{out} does not end in .parquet: scores are one table; name it {out.stem}.parquet.")
    if (report := report_path(out)).exists() and not (overwrite or out.exists()):
        raise InputError(f"{report} exists, and the report goes there: give another name, or --overwrite.")
    if not out.exists():
        return
    if not overwrite:
        raise InputError(f"{out} exists: give another name, or allow to overwrite it (--overwrite).")
    read_facts(out)  # whatever is no file of scores is not overwritten


def predict_matrix(
    expression: Expression, request: Request, codes: Path | None, asked: Asked, session: Session
) -> Outcome:
    """Score pairs of a matrix, counted with the network's own rule of binning.

    Parameters
    ----------
    codes
        Where the codes are kept. Absent: beside the scores, named after them.

    Raises
    ------
    InputError
        As `pipeline.codes.encode.encode_matrix`; a worker has too little memory.
    JobError
        Tasks failed, or the disk refuses; what is finished is kept.
    """
    path = (codes or asked.out.with_name(f"{asked.out.stem}.codes.zarr")).absolute()
    binning, limit = asked.trained.binning, session.memory
    need = _bytes_beside(asked.options, request.cells.size, binning.bins)
    portion(binning, request.cells.size, 1.0, limit, need)  # refuses before the matrix is read
    encoded = encode_matrix(expression, path, binning, request.cells, session)
    return _predict(Origin.counted(encoded, request.chosen.pairs, request.provenance), asked, session)


def predict_store(images: Images, asked: Asked, session: Session) -> Outcome:
    """Score the pairs of an image store.

    Raises
    ------
    InputError
        Its images are binned in another way than those the network knows; otherwise as `predict_matrix`.
    JobError
        As `predict_matrix`.
    """
    known, found = asked.trained.binning, images.spec.binning
    if (known.bins, known.scale) != (found.bins, found.scale):
        raise InputError(
            f"{images.path} has {found.bins} bins of scale {found.scale} and {asked.trained.run} was trained on "
            f"{known.bins} of scale {known.scale}; the pictures would mean something else: make the store with --bins "
            f"{known.bins} --scale {known.scale}, or give the matrix."
        )
    return _predict(Origin.stored(images), asked, session)


def network_bytes(bins: int) -> int:
    """Memory of a worker for torch, a network and one of its batches, at most."""
    return TORCH_BYTES + AT_ONCE * bins**2 * 4 * LIVE_MAPS


def _predict(origin: Origin, asked: Asked, session: Session) -> Outcome:
    prior = asked.prior
    session.say(
        f"{asked.trained.facts['network']} of {asked.trained.run}: {len(origin.pairs):,} candidate pairs, "
        f"{origin.n_cells:,} cells, scores at a share of {prior:.2%} edges among the candidates"
    )
    counted = _counted(origin, asked.options)
    with workplace(asked.out) as place:
        job = _job(origin, counted, asked, place.path, session.memory)
        with one_thread():
            place.claim(_identity(origin, asked))
            facts = _facts(origin, asked)
            job = _with_described(job, origin)
            job, rate, more = _look_at_sample(job, origin, asked, session)
            facts |= more
        place.keeps = True
        job.parts.save_pairs(origin.pairs)
        outcome = _score(job, origin, rate, session)
        doubt = doubts(job, origin, counted, asked.options, asked.seed, session)
        facts |= doubt.facts
        directed = ["forward"] if int(asked.trained.facts["classes"]) > 2 else []
        columns = ["gene_a", "gene_b", "label", "score", *directed, "dependence", "correlation", *doubt.columns]
        write_scores(place.store, _joined(job.parts, origin, doubt), columns, facts)
        place.publish(asked.out)
    write_findings(asked.out, counted)
    return replace(outcome, facts=facts)


def _bytes_beside(options: Prediction, n_cells: int, bins: int) -> int:
    """Memory of a task for all else than counting."""
    return network_bytes(bins) + doubt_bytes(options, n_cells, bins)


def _counted(origin: Origin, options: Prediction) -> Codes | None:
    """The codes that images are counted from; those of an image store only where decoys and resamples need them.

    Raises
    ------
    InputError
        As `pipeline.heatmaps.images.counted_codes`.
    """
    if origin.images is None or not options.doubted:
        return origin.codes
    return counted_codes(
        origin.images,
        "decoys and resamples are counted from them",
        otherwise="leave out --q-values and --bootstrap",
    )


def _job(origin: Origin, counted: Codes | None, asked: Asked, folder: Path, limit: int | None) -> Job:
    """What the tasks share, before the screen is placed.

    Parameters
    ----------
    counted
        Of `_counted`.

    Raises
    ------
    InputError
        A worker has too little memory.
    """
    need = _bytes_beside(asked.options, origin.n_cells, origin.binning.bins)
    if origin.images is not None:
        require_scoring_memory(need + 2 * PART_PAIRS * origin.binning.bins**2 * 4, limit)
    share = None if counted is None else _portion(counted, origin.pairs, limit, need)
    return Job(
        parts=Parts(str(folder), len(origin.pairs), PART_PAIRS),
        run=str(asked.trained.run),
        network=asked.trained.network,
        prior=asked.prior,
        device=asked.options.device,
        codes=origin.codes.path if origin.codes is not None else None,
        images=str(origin.images.path) if origin.images is not None else None,
        portion=share,
        parts_at_once=_parts_at_once(origin.codes, share),
        threshold=None,
        describes=False,
    )


def _portion(codes: Codes, pairs: Pairs, limit: int | None, beside: int) -> Portion:
    """How much of the codes a worker holds."""
    return portion(codes.binning, codes.n_cells, block_density(pairs, 1 - codes.array("dropout")), limit, beside)


def _parts_at_once(codes: Codes | None, share: Portion | None) -> int:
    """Parts that are counted together: several where cells do not fit and would be read again for each."""
    if codes is None or share is None or share.cells >= codes.n_cells:
        return 1
    return max(share.shards * codes.binning.shard_pairs // PART_PAIRS, 1)


def _with_described(job: Job, origin: Origin) -> Job:
    """The job with its genes described, each once, where the network knows more of them than the image.

    Raises
    ------
    InputError
        As `model.networks.classifier.gene_codes`, `model.networks.gene_context.require_genes` and
        `model.networks.loadings.require_factor_genes`.
    """
    scorer = held_scorer(job)
    if not scorer.classifier.knows_genes:
        return job
    codes = origin.codes if origin.images is None else gene_codes(scorer.classifier, origin.images)
    assert codes is not None
    if scorer.classifier.needs_neighbours:
        require_genes(codes, codes.path)
    else:
        require_factor_genes(codes)
    if not job.parts.has_described:
        gene = np.union1d(origin.pairs.gene_a, origin.pairs.gene_b).astype(np.int64)
        job.parts.save_described(gene, describe_genes(scorer.classifier, codes, gene, scorer.device))
    return replace(job, describes=True)


def _identity(origin: Origin, asked: Asked) -> dict[str, Any]:
    """All that decides a byte of the file."""
    return {
        "version": 1,
        "network": asked.trained.network,
        "run": str(asked.trained.run),
        "prior": asked.prior,
        "options": asdict(asked.options),
        "images": origin.record(),
        "content": origin.content_hash,
        "pairs": origin.pairs.content_hash(),
        "seed": asked.seed,
        "part": PART_PAIRS,
        "versions": versions(),
    }


def _facts(origin: Origin, asked: Asked) -> dict[str, Any]:
    return {
        "model": asked.trained.record(),
        **origin.record(),
        "prior": asked.prior,
        "thresholds": asked.trained.thresholds(asked.prior),
        "seed": asked.seed,
        "versions": versions(),
    }


def _compared(
    job: Job,
    origin: Origin,
    rows: NDArray[np.int64],
    images: tuple[NDArray[Any], NDArray[Any]],
    genes: NDArray[np.integer] | None,
    asked: Asked,
    say: Say,
) -> dict[str, Any]:
    """How far a sample is from the training pairs, told before anything is spent; the facts `shift`."""
    reference, scorer = asked.trained.reference, held_scorer(job)
    if reference is None:
        say(UNCOMPARED)
        return {}
    described = None if genes is None else job.parts.described(genes)
    sample = CountedPairs(
        origin.pairs.gene_a[rows], origin.pairs.gene_b[rows], *images, origin.source.array("dropout"), origin.n_cells,
        origin.binning.scale, lambda some: None if described is None else torch.as_tensor(described(some)),
    )  # fmt: skip

    def at_random() -> CountedPairs | None:
        codes = origin.codes if origin.images is None else codes_at_hand(origin.images)
        return None if codes is None else CountedPairs.at_random(codes, scorer.classifier, asked.seed)

    found = find_shift(reference, scorer.classifier, scorer.facts, sample, at_random, job.prior).facts()
    say(*shift_lines(found))
    return {"shift": found}


def _look_at_sample(
    job: Job, origin: Origin, asked: Asked, session: Session
) -> tuple[Job, NDArray[np.float64], dict[str, Any]]:
    """The job with its screen, the seconds that each part should take, and facts about the sample."""
    rows = sample_rows(len(origin.pairs), asked.seed)
    session.progress.start("sampling pairs", rows.size)
    images, facts = origin.read(rows), dict[str, Any]()
    genes = np.stack([origin.pairs.gene_a[rows], origin.pairs.gene_b[rows]], axis=1) if job.describes else None
    facts |= _compared(job, origin, rows, images, genes, asked, session.say)
    fraction = asked.options.screen
    if fraction is None or fraction == 1:
        rate, kept = _seconds_a_pair(job, images, genes), 1.0
    else:
        started = time.perf_counter()
        columns = score_images(job, images, genes, Cost())
        rate = (time.perf_counter() - started) / rows.size
        job = replace(job, threshold=place_threshold(columns["dependence"], fraction))
        facts["screen"] = screen_facts(fraction, float(job.threshold or 0), columns["dependence"], columns["score"])
        kept = facts["screen"]["kept"]
        session.say(screen_line(facts["screen"]))
    session.progress.advance(rows.size)
    return job, _part_seconds(job.parts, origin, rate * kept), facts


def _seconds_a_pair(
    job: Job, images: tuple[NDArray[np.integer], NDArray[np.integer]], genes: NDArray[np.integer] | None
) -> float:
    """How long the network takes for one of the images, here; the first batch, which is slow, is not counted."""
    seconds = 0.0
    for some in (slice(64), slice(TIMED_PAIRS)):
        described = None if genes is None else job.parts.described(genes[some])
        started = time.perf_counter()
        edge_scores(held_scorer(job), (images[0][some], images[1][some]), described)
        seconds = (time.perf_counter() - started) / len(images[0][some])
    return seconds


def _part_seconds(parts: Parts, origin: Origin, scoring: float) -> NDArray[np.float64]:
    """What each part should take on one worker, if the network takes so long for a pair."""
    rates = Rates(writing=DERIVING_SECONDS + scoring)
    if origin.codes is None:
        return np.array([len(parts.rows(part)) for part in range(len(parts))]) * rates.writing
    events = pair_events(origin.pairs, 1 - origin.codes.array("dropout"), origin.n_cells)
    return shard_seconds(events, parts.size, rates)


def _score(job: Job, origin: Origin, seconds: NDArray[np.float64], session: Session) -> Outcome:
    """Fan the parts that are still missing out.

    Raises
    ------
    JobError
        Tasks failed, or parts are missing at the end.
    """
    parts, missing = job.parts, job.parts.missing()
    tasks = _tasks(job, origin, missing, seconds[missing], worker_threads(session.client))
    cost = Cost()
    if missing:
        session.progress.start("starting workers", worker_threads(session.client))
        for spent in on_every_worker(session.client, prepare, job):
            session.progress.advance(1)
            cost.add(spent)
    session.progress.start("scoring pairs", parts.n_rows(missing))
    for task, spent in run_tasks(session, score_task, tasks, job):
        session.progress.advance(parts.n_rows(task.shards))
        cost.add(spent)
    if left := parts.missing():
        raise JobError(
            f"{parts.folder}: {len(left)} of {len(parts)} parts are missing (first: {left[0]}); run the same again."
        )
    return Outcome({}, len(missing), len(parts) - len(missing), cost, session.usage)


def _tasks(job: Job, origin: Origin, parts: list[int], seconds: NDArray[np.float64], workers: int) -> list[Task]:
    """Runs of parts that take about the same time."""
    if not parts:
        return []
    wanted = min(TASK_SECONDS, float(seconds.sum()) / (TASKS_PER_WORKER * workers))
    tiles = tiles_of(origin.pairs.gene_b, job.parts.size) if job.codes else [()] * len(job.parts)
    runs = [tuple(parts[run]) for run in even_runs(seconds, wanted)]
    return [Task(run, tuple(tiles[part] for part in run)) for run in runs]


def _joined(parts: Parts, origin: Origin, doubt: Doubt) -> Iterator[pa.Table]:
    """The rows of the file, some parts at a time."""
    pairs, names = origin.pairs, pa.array(origin.genes.astype(object), pa.string())
    for start in range(0, len(parts), JOINED_PARTS):
        some = range(start, min(start + JOINED_PARTS, len(parts)))
        rows, found = slice(parts.rows(start).start, parts.rows(some[-1]).stop), parts.read(some)
        genes = {name: getattr(pairs, name)[rows].astype(np.int32) for name in ("gene_a", "gene_b")}
        yield pa.table(
            {name: pa.DictionaryArray.from_arrays(pa.array(index), names) for name, index in genes.items()}
            | {"label": pairs.label[rows]}
            | {name: _or_null(found[name]) for name in found.dtype.names or ()}
            | {name: _or_null(column) for name, column in doubt.rows(rows, found["score"]).items()}
        )


def _or_null(column: NDArray[np.float32]) -> pa.Array:
    return pa.array(column, mask=np.isnan(column))
