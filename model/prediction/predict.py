"""The prediction job: a trained run and the candidate pairs of a matrix or an image store in, one file of scores out.

No image is stored: a task counts a run of pairs and scores it at once (`model.prediction.parts`). A random sample of
the candidates comes first: how far they are from the training pairs, where the screen has to cut, and what that costs.
Everything grows in `.OUT.parquet.wip` beside the target, part by part with receipts, and the same command goes on where
it was interrupted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairscape.model.edges.scores import COMBINED, write_scores
from pairscape.model.evaluation.evaluate import versions
from pairscape.model.evaluation.measure import codes_at_hand
from pairscape.model.networks.classifier import describe_genes, gene_codes
from pairscape.model.networks.device import one_thread
from pairscape.model.networks.fast import SENT_AT_ONCE, Scorer
from pairscape.model.networks.gene_context import require_factor_genes, require_genes
from pairscape.model.options import DEPTH, Prediction
from pairscape.model.prediction.by_group import check_groups, group_facts, group_jobs, group_line, with_screen
from pairscape.model.prediction.candidates import CandidateImages, SampleFindings, look_at_sample
from pairscape.model.prediction.checked import CheckedPrediction
from pairscape.model.prediction.confidence import Confidence, confidence_bytes, estimate_confidence
from pairscape.model.prediction.explained import find_explained
from pairscape.model.prediction.expressed import expressed_request
from pairscape.model.prediction.parts import (
    PART_PAIRS,
    Cost,
    Job,
    Parts,
    hold_scorer,
    prepare,
    score_task,
)
from pairscape.model.prediction.table import score_columns, score_rows
from pairscape.model.prediction.within import check_columns, lay_strata
from pairscape.model.reports.findings import write_findings
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.memory import require_memory
from pairscape.pipeline.compute.opening import worker_threads
from pairscape.pipeline.compute.progress import duration
from pairscape.pipeline.compute.session import Session, Usage
from pairscape.pipeline.compute.tasks import on_every_worker, run_tasks
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.images import Images, counted_codes
from pairscape.pipeline.heatmaps.job import Request
from pairscape.pipeline.heatmaps.memory import Portion, portion
from pairscape.pipeline.heatmaps.tiles import (
    Task,
    block_density,
    even_runs,
    tiles_of,
)
from pairscape.pipeline.matrix.cell_groups import NO_GROUP, CellGroups, describe_groups
from pairscape.pipeline.matrix.expression import Expression
from pairscape.pipeline.storage.digests import digest
from pairscape.pipeline.storage.workspace import workplace

TASK_SECONDS = 5.0  # of a task, if there is work enough
TASKS_PER_WORKER = 30  # so few that work is all they cost, so many that the time left is right early
TORCH_BYTES = 350_000_000  # an idle worker that has loaded torch and a network, beyond one that has not
OVER_ALL_CELLS = "scores are over all cells, with what unlike depth makes of a pair; q-values have it in their decoys"
LIVE_MAPS = 160  # floats for each pixel of a batch, at the widest place of the widest network


@dataclass(frozen=True)
class PredictionOutcome:
    """How a prediction ended.

    Attributes
    ----------
    facts
        What the file says of itself.
    computed, kept
        Parts computed by this run, and found finished from an earlier one.
    cost, usage
        Of the workers.
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


def predict_matrix(
    expression: Expression,
    request: Request | None,
    codes: Path | None,
    checked: CheckedPrediction,
    session: Session,
    min_share: float | None = None,
) -> PredictionOutcome:
    """Score pairs of a matrix, counted with the network's own rule of binning.

    Parameters
    ----------
    request
        None: all pairs of the genes that enough cells express (`model.prediction.expressed`).
    codes
        Where the codes are kept. Absent: beside the scores, named after them.
    min_share
        Of the cells, which express a gene at least, where no request says which pairs.

    Raises
    ------
    InputError
        The matrix cannot be encoded, no pair is left, or a worker has too little memory.
    JobError
        Tasks failed, or the disk refuses; what is finished is kept.
    """
    path = (codes or checked.out.with_name(f"{checked.out.stem}.codes.zarr")).absolute()
    asked = checked.options.within is not None
    checked, binning = checked.settled(countable=True, strata=True), checked.trained.binning
    cells, limit = np.arange(expression.n_cells) if request is None else request.cells, session.memory
    obs = expression.obs().iloc[cells]
    groups = check_groups(checked, obs)
    if groups is not None:
        session.say(*groups.notes, describe_groups(groups))
        kept = groups.number != NO_GROUP
        cells, obs, groups = cells[kept], obs[kept], replace(groups, number=groups.number[kept])
    if not asked:  # then `depth` can mean but one thing
        obs = obs.drop(columns=DEPTH, errors="ignore")
    strata = check_columns(obs, columns) if (columns := checked.strata_columns) else None
    need, number = bytes_beside(checked.options, cells.size, binning.bins), 1 if groups is None else len(groups.names)
    portion(binning, cells.size, 1.0, limit, need, groups=number)  # refuses before the matrix is read
    encoded = encode_matrix(expression, path, binning, cells, session)
    if request is None:
        request = expressed_request(encoded, checked.seed, min_share)
        session.say(*request.chosen.notes)
    pairs, provenance = request.chosen.pairs, request.provenance
    candidates = CandidateImages.counted(encoded, pairs, provenance, expression.symbols, obs)
    return _predict(candidates, checked, session, strata, groups)


def predict_store(images: Images, checked: CheckedPrediction, session: Session) -> PredictionOutcome:
    """Score the pairs of an image store.

    Raises
    ------
    InputError
        Its images are binned in another way than those of the training, or a worker has too little memory.
    JobError
        Tasks failed, or the disk refuses; what is finished is kept.
    """
    known, found = checked.trained.binning, images.spec.binning
    if (known.bins, known.scale) != (found.bins, found.scale):
        raise InputError(
            f"{images.path} has {found.bins} bins of scale {found.scale} and {checked.trained.folder} was trained on "
            f"{known.bins} of scale {known.scale}; the pictures would mean something else: make the store with --bins "
            f"{known.bins} --scale {known.scale}, or give the matrix."
        )
    for name, asked in (("within", checked.options.within_columns), ("by", checked.grouping.columns)):
        if asked:
            raise InputError(
                f"--{name} {','.join(asked)} and --images were given together: the annotations of the cells lie in the "
                "matrix; give the matrix that the store was made from in place of --images."
            )
    checked = checked.settled(countable=codes_at_hand(images) is not None)
    return _predict(CandidateImages.stored(images), checked, session)


def network_bytes(bins: int) -> int:
    """Memory of a worker for torch, a network and one of its batches, at most."""
    return TORCH_BYTES + SENT_AT_ONCE * bins**2 * 4 * LIVE_MAPS


def _predict(
    candidates: CandidateImages,
    checked: CheckedPrediction,
    session: Session,
    strata: CellGroups | None = None,
    groups: CellGroups | None = None,
) -> PredictionOutcome:
    trained = checked.trained
    session.say(
        f"{trained.network.facts.network} of {trained.name}: {len(candidates.pairs):,} candidate pairs, "
        f"{candidates.n_cells:,} cells, {checked.prior_words()}"
    )
    counted = _counted(candidates, checked.options)
    with workplace(checked.out) as place:
        number = 1 if groups is None else len(groups.names)
        job = job_of(candidates, counted, checked, place.path, session.memory, number)
        with one_thread():
            place.claim(_identity(candidates, checked, strata, groups))
            facts = _facts(candidates, checked)
            job = with_strata(job, candidates, checked, strata, session)
            facts |= {} if job.within is None else job.within.facts()
            job = _with_described(job, candidates, hold_scorer(job, checked.trained.network))
            found = look_at_sample(job, candidates, checked.trained, checked.options.screen, checked.seed, session)
            job, facts = replace(job, threshold=found.threshold), facts | found.facts
        place.keeps = True
        job.parts.save_pairs(candidates.pairs)
        outcome = _score(job, candidates, found.part_seconds, session)
        if checked.trained.network.classifier.compares_within:
            session.progress.start("looking at columns", 0)
            facts["explained"] = find_explained(job, candidates, checked.seed, session)
            for column in facts["explained"]:
                session.say(column["sentence"])
        confidence = estimate_confidence(job, candidates.pairs, counted, checked.options, checked.seed, session)
        facts |= confidence.facts
        layers = [("" if groups is None else COMBINED, job.parts, confidence)]
        for own in [] if groups is None else group_jobs(job, groups):
            outcome, layer, of_group = _score_group(own, candidates, counted, checked, found, outcome, session)
            layers.append(layer)
            facts.setdefault("by_group", {})[layer[0]] = of_group
        facts |= {} if groups is None else {"groups": groups.facts()}
        tables = [score_rows(parts, candidates, of, name) for name, parts, of in layers]
        columns = score_columns(candidates, trained, confidence, groups)
        session.progress.start("writing scores", len(layers) * len(candidates.pairs))
        write_scores(place.store, _told(chain.from_iterable(tables), session), columns, facts)
        place.publish(checked.out)
    session.progress.start("drawing report", 0)
    write_findings(checked.out, counted)
    return replace(outcome, facts=facts)


def _told(tables: Iterable[pa.Table], session: Session) -> Iterator[pa.Table]:
    """The same, counted by the bar."""
    for table in tables:
        yield table
        session.progress.advance(table.num_rows)


Layer = tuple[str, Parts, Confidence]


def _score_group(
    job: Job,
    candidates: CandidateImages,
    counted: Codes | None,
    checked: CheckedPrediction,
    found: SampleFindings,
    before: PredictionOutcome,
    session: Session,
) -> tuple[PredictionOutcome, Layer, dict[str, Any]]:
    """Score the pairs by the cells of one group; what it cost is added to that of the layers before."""
    with one_thread():
        hold_scorer(job, checked.trained.network)
        job, screen = with_screen(job, candidates, checked.options.screen, checked.seed, session)
    outcome = _score(job, candidates, found.part_seconds, session)
    confidence = estimate_confidence(job, candidates.pairs, counted, checked.options, checked.seed, session)
    facts = group_facts(job, confidence, screen)
    session.say(group_line(job, facts))
    outcome.cost.add(before.cost)
    done = replace(outcome, computed=outcome.computed + before.computed, kept=outcome.kept + before.kept)
    assert job.group is not None
    return done, (job.group.name, job.parts, confidence), facts


def bytes_beside(options: Prediction, n_cells: int, bins: int) -> int:
    """Memory of a task for all else than counting."""
    return network_bytes(bins) + confidence_bytes(options, n_cells, bins)


def _counted(candidates: CandidateImages, options: Prediction) -> Codes | None:
    """The codes that images are counted from; those of an image store only where decoys and resamples need them."""
    if candidates.images is None or not options.estimates_confidence:
        return candidates.codes
    return counted_codes(
        candidates.images,
        "decoys and resamples are counted from them",
        otherwise="leave out --q-values and --bootstrap",
    )


def job_of(
    candidates: CandidateImages,
    counted: Codes | None,
    checked: CheckedPrediction,
    folder: Path,
    limit: int | None,
    groups: int = 1,
) -> Job:
    """What the tasks share, before the screen is placed; refused where a worker has too little memory."""
    need = bytes_beside(checked.options, candidates.n_cells, candidates.binning.bins)
    if candidates.images is not None:
        require_memory("scoring images", need + 2 * PART_PAIRS * candidates.binning.bins**2 * 4, limit)
    share = None if counted is None else _portion(counted, candidates.pairs, limit, need, groups)
    return Job(
        parts=Parts(str(folder), len(candidates.pairs), PART_PAIRS),
        run=checked.trained.name,
        network=checked.trained.network.sha256,
        prior=checked.prior,
        device=checked.options.device,
        codes=candidates.codes.path if candidates.codes is not None else None,
        images=str(candidates.images.path) if candidates.images is not None else None,
        portion=share,
        parts_at_once=_parts_at_once(candidates.codes, share),
        threshold=None,
        describes=False,
    )


def _portion(codes: Codes, pairs: Pairs, limit: int | None, beside: int, groups: int) -> Portion:
    """How much of the codes a worker holds; groups of cells are counted one after the other."""
    density = block_density(pairs, 1 - codes.array("dropout"))
    return replace(portion(codes.binning, codes.n_cells, density, limit, beside, groups=groups), groups=1)


def _parts_at_once(codes: Codes | None, share: Portion | None) -> int:
    """Parts that are counted together: several where cells do not fit and would be read again for each."""
    if codes is None or share is None or share.cells >= codes.n_cells:
        return 1
    return max(share.shards * codes.binning.shard_pairs // PART_PAIRS, 1)


def _with_described(job: Job, candidates: CandidateImages, scorer: Scorer) -> Job:
    """The job with features of its genes, each made once, where the network `knows_genes`."""
    if not scorer.classifier.knows_genes:
        return job
    codes = candidates.codes if candidates.images is None else gene_codes(scorer.classifier, candidates.images)
    assert codes is not None
    if scorer.classifier.needs_neighbours:
        require_genes(codes, codes.path)
    else:
        require_factor_genes(codes)
    if not job.parts.has_described:
        gene = np.union1d(candidates.pairs.gene_a, candidates.pairs.gene_b).astype(np.int64)
        job.parts.save_described(gene, describe_genes(scorer.classifier, codes, gene, scorer.device))
    return replace(job, describes=True)


def with_strata(
    job: Job, candidates: CandidateImages, checked: CheckedPrediction, strata: CellGroups | None, session: Session
) -> Job:
    """The job with the strata within which cells are compared; said."""
    if strata is None:
        if checked.trained.network.classifier.compares_within:
            session.say(OVER_ALL_CELLS)
        return job
    assert candidates.codes is not None
    for note in strata.notes:
        session.say(note)
    columns, genes = checked.strata_columns, np.union1d(candidates.pairs.gene_a, candidates.pairs.gene_b)
    folder = Path(job.parts.folder)
    within = lay_strata(candidates.codes, strata, columns, genes, folder, checked.seed, session)
    session.say(within.line())
    return replace(job, within=within)


def _identity(
    candidates: CandidateImages, checked: CheckedPrediction, strata: CellGroups | None, groups: CellGroups | None
) -> dict[str, Any]:
    """All that decides a byte of the file."""
    names = {} if groups is None else {"groups": digest(groups.facts() | {"number": groups.number.tolist()})}
    return {
        "version": 2,
        "network": checked.trained.network.sha256,
        "run": checked.trained.name,
        "prior": checked.prior,
        "options": asdict(checked.options),
        "images": candidates.record(),
        "content": candidates.content_hash,
        "pairs": candidates.pairs.content_hash(),
        "symbols": digest({"symbols": list(candidates.symbols or ())}),
        "seed": checked.seed,
        "part": PART_PAIRS,
        "versions": versions(),
        **({} if strata is None else {"strata": digest({"number": strata.number.tolist()})}),
        **names,
    }


def _facts(candidates: CandidateImages, checked: CheckedPrediction) -> dict[str, Any]:
    return {
        "model": checked.trained.record(),
        **candidates.record(),
        "prior": checked.prior,
        "thresholds": checked.trained.thresholds(checked.prior),
        "seed": checked.seed,
        "versions": versions(),
    }


def _score(job: Job, candidates: CandidateImages, seconds: NDArray[np.float64], session: Session) -> PredictionOutcome:
    """Compute the parts that are still missing."""
    parts, missing = job.parts, job.parts.missing()
    threads = worker_threads(session.client)
    tasks = tasks_of(job, candidates, missing, seconds[missing], threads)
    cost = Cost()
    if missing:
        session.say(f"scoring will take about {duration(seconds[missing].sum() / threads)} ({threads} at a time)")
        session.progress.start("loading network", threads)
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
    return PredictionOutcome({}, len(missing), len(parts) - len(missing), cost, session.usage)


def tasks_of(
    job: Job, candidates: CandidateImages, parts: list[int], seconds: NDArray[np.float64], workers: int
) -> list[Task]:
    """Runs of parts that take about the same time."""
    if not parts:
        return []
    wanted = min(TASK_SECONDS, float(seconds.sum()) / (TASKS_PER_WORKER * workers))
    tiles = tiles_of(candidates.pairs.gene_b, job.parts.size) if job.codes else [()] * len(job.parts)
    runs = [tuple(parts[run]) for run in even_runs(seconds, wanted)]
    return [Task(run, tuple(tiles[part] for part in run)) for run in runs]
