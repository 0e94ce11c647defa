"""The candidate pairs of a prediction: where their images come from, and a random sample that is looked at first.

Images are counted from codes or read from an image store. The sample says before much is computed how far the
candidates are from the training pairs, where the screen has to cut, and how long a part takes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pairscape.model.evaluation.measure import PairSample, codes_at_hand, find_shift
from pairscape.model.evaluation.shift import UNCOMPARED, shift_lines
from pairscape.model.prediction.parts import Cost, Job, Parts, answers, held_scorer, score_images
from pairscape.model.prediction.screen import place_threshold, sample_rows, screen_facts, screen_line
from pairscape.model.prediction.trained import TrainedRun
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.heatmaps.read import read_images
from pairscape.pipeline.heatmaps.tiles import Rates, pair_events, shard_seconds
from pairscape.pipeline.options import Binning

TIMED_PAIRS = 1024  # from which the seconds a pair are estimated: a whole batch of the largest
DERIVING_SECONDS = 1e-5  # of one image: its statistics, and its place in a part

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CandidateImages:
    """Candidate pairs, and where their images come from.

    Attributes
    ----------
    pairs
        In the order of an image store.
    genes : (G,) str
        Names.
    source
        What is counted or read.
    provenance
        What is known of the pairs.
    symbols : (G,) str or None
        "" where a gene has none; None where the matrix has none.
    obs
        Annotations of the cells that are counted, a row each; None where images are read.
    """

    pairs: Pairs
    genes: NDArray[Any]
    source: Codes | Images
    provenance: dict[str, Any]
    symbols: Sequence[str] | None = None
    obs: pd.DataFrame | None = None

    @classmethod
    def counted(
        cls,
        codes: Codes,
        pairs: Pairs,
        provenance: dict[str, Any],
        symbols: Sequence[str] | None = None,
        obs: pd.DataFrame | None = None,
    ) -> "CandidateImages":
        """Images that are still to be counted."""
        return cls(pairs, codes.array("gene"), codes, provenance, symbols, obs)

    @classmethod
    def stored(cls, images: Images) -> "CandidateImages":
        """Images of a complete store."""
        return cls(images.pairs(), images.array("gene"), images, images.provenance, images.symbols())

    @property
    def codes(self) -> Codes | None:
        """The codes, where images are counted."""
        return self.source if isinstance(self.source, Codes) else None

    @property
    def images(self) -> Images | None:
        """The store, where images are read."""
        return self.source if isinstance(self.source, Images) else None

    @property
    def n_cells(self) -> int:
        """Cells in every image."""
        return self.source.n_cells if isinstance(self.source, Codes) else self.source.spec.n_cells

    @property
    def binning(self) -> Binning:
        """How they were binned."""
        return self.source.binning if isinstance(self.source, Codes) else self.source.spec.binning

    @property
    def content_hash(self) -> str:
        """Names the content of the codes, or that of the images."""
        return self.source.content_hash if isinstance(self.source, Codes) else self.source.spec.plan_hash

    def read(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.signedinteger], NDArray[np.int32]]:
        """Images and double zeros of some candidates, ascending, in this process."""
        if isinstance(self.source, Codes):
            return count_pairs(
                self.source, self.pairs.gene_a[rows].astype(np.int64), self.pairs.gene_b[rows].astype(np.int64)
            )
        return read_images(self.source, rows)

    def record(self) -> dict[str, Any]:
        """What a file of scores says of them: `matrix`, `codes` or `images`, and `pairs`."""
        pairs = {"n_pairs": len(self.pairs), **self.provenance}
        if isinstance(self.source, Codes):
            known = self.source.provenance
            matrix = {"path": known.get("matrix"), "hash": known.get("matrix_hash"), "n_cells": self.n_cells}
            codes = {"path": self.source.path, "content_hash": self.source.content_hash}
            return {"matrix": matrix, "codes": codes, "pairs": pairs}
        spec = self.source.spec
        images = {"path": str(self.source.path), "plan_hash": spec.plan_hash}
        codes = {"path": spec.codes, "content_hash": spec.codes_hash}
        return {"matrix": {"n_cells": spec.n_cells}, "images": images, "codes": codes, "pairs": pairs}


# ---------------------------------------------------------------- a sample of them


@dataclass(frozen=True, eq=False)
class SampleFindings:
    """What a random sample of the candidates says before all are scored.

    Attributes
    ----------
    threshold
        Dependence from which a pair goes to the network; None: all do.
    part_seconds : (parts,)
        How long each part should take on one worker.
    facts
        `shift` and `screen` for the file of scores, where they were measured.
    """

    threshold: float | None
    part_seconds: Floats
    facts: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Sample:
    """Some candidates, with their images and, where the job `needs_genes`, their genes (n, 2)."""

    rows: NDArray[np.int64]
    images: tuple[NDArray[np.integer], NDArray[np.integer]]
    genes: NDArray[np.integer] | None


def look_at_sample(
    job: Job, candidates: CandidateImages, trained: TrainedRun, screen: float | None, seed: int, session: Session
) -> SampleFindings:
    """Score a random sample of the candidates in this process; the session says what was found.

    Parameters
    ----------
    screen
        Share of the candidates that the network is to look at. None: all.
    """
    rows = sample_rows(len(candidates.pairs), seed)
    session.progress.start("sampling pairs", rows.size)
    pairs, threshold = candidates.pairs, None
    genes = np.stack([pairs.gene_a[rows], pairs.gene_b[rows]], axis=1) if job.needs_genes else None
    sample = _Sample(rows, candidates.read(rows), genes)
    facts = _compared(job, candidates, sample, trained, seed, session)
    if screen is None or screen == 1:
        seconds = _seconds_a_pair(job, sample)
    else:
        started = time.perf_counter()
        columns = score_images(job, sample.images, genes, Cost())
        seconds = (time.perf_counter() - started) / rows.size
        threshold = place_threshold(columns["dependence"], screen)
        facts["screen"] = screen_facts(screen, threshold, columns["dependence"], columns["score"])
        seconds *= facts["screen"]["kept"]
        session.say(screen_line(facts["screen"]))
    session.progress.advance(rows.size)
    return SampleFindings(threshold, _part_seconds(job.parts, candidates, seconds), facts)


def _compared(
    job: Job, candidates: CandidateImages, sample: _Sample, trained: TrainedRun, seed: int, session: Session
) -> dict[str, Any]:
    """The facts `shift`, and their lines said; empty where the run has no reference."""
    if trained.reference is None:
        session.say(UNCOMPARED)
        return {}
    described = job.parts.described(sample.genes) if job.describes and sample.genes is not None else None
    pairs = PairSample(
        candidates.pairs.gene_a[sample.rows], candidates.pairs.gene_b[sample.rows], *sample.images,
        candidates.source.array("dropout"), candidates.n_cells, candidates.binning.scale,
        lambda some: None if described is None else torch.as_tensor(described(some)),
    )  # fmt: skip

    def at_random() -> PairSample | None:
        codes = candidates.codes if candidates.images is None else codes_at_hand(candidates.images)
        return None if codes is None else PairSample.at_random(codes, trained.network.classifier, seed)

    shift = find_shift(trained.reference, trained.network, pairs, at_random, job.prior).facts()
    session.say(*shift_lines(shift))
    return {"shift": shift}


def _seconds_a_pair(job: Job, sample: _Sample) -> float:
    """Seconds of the network for one of the images, here; the first batch, which is slow, is not counted."""
    seconds, (counts, both_zero) = 0.0, sample.images
    for some in (slice(64), slice(TIMED_PAIRS)):
        genes = None if sample.genes is None else sample.genes[some]
        described = job.parts.described(genes) if job.describes and genes is not None else None
        started = time.perf_counter()
        answers(held_scorer(job), (counts[some], both_zero[some]), described, job.margins(genes))
        seconds = (time.perf_counter() - started) / len(counts[some])
    return seconds


def _part_seconds(parts: Parts, candidates: CandidateImages, scoring: float) -> Floats:
    """Seconds of each part on one worker, if the network takes `scoring` for a pair."""
    rates = Rates(writing=DERIVING_SECONDS + scoring)
    if candidates.codes is None:
        return np.array([len(parts.rows(part)) for part in range(len(parts))]) * rates.writing
    events = pair_events(candidates.pairs, 1 - candidates.codes.array("dropout"), candidates.n_cells)
    return shard_seconds(events, parts.size, rates)
