"""The heatmap job: matrix and pairs → image store. Plans, lays out, fans out, and ends with every shard receipted."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from pipeline.cluster import smallest_memory, worker_threads
from pipeline.codes import Codes
from pipeline.cost import Rates, pair_events, shard_seconds
from pipeline.count import Spent, count_task
from pipeline.encode import encode_matrix
from pipeline.errors import InputError, JobError
from pipeline.fanout import Usage, run_tasks
from pipeline.images import Images, clear_shards, create_images, open_images
from pipeline.matrix import Expression
from pipeline.memory import Portion, portion
from pipeline.negatives import choose_negatives
from pipeline.pairs import Candidates, Pairs, candidates
from pipeline.prior import network_facts
from pipeline.progress import Progress
from pipeline.remote import holds_store
from pipeline.replicate import replicate_labels, split_cells
from pipeline.spec import Binning, Compute, ImageSpec, PairSource
from pipeline.tiles import Task, block_density, plan_tasks, storage_order, tiles_of


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
    """

    cells: NDArray[np.int64]
    chosen: Candidates
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
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


def resolve_request(expression: Expression, source: PairSource, seed: int) -> Request:
    """Candidate pairs with labels and the cells to count.

    Raises
    ------
    InputError
        As `pipeline.pairs.candidates`, `pipeline.replicate` and `pipeline.negatives.choose_negatives`.
    """
    found, cells, rule = candidates(source, expression.genes, expression.symbols), np.arange(expression.n_cells), "all"
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
    return Request(cells, replace(found, pairs=storage_order(found.pairs)), provenance)


def _options(source: PairSource) -> dict[str, Any]:
    """What was asked for, as far as it decides the pairs; the map of genes is found again from any folder."""
    asked = asdict(source)
    del asked["min_matched"]
    return asked | {"gene_map": source.gene_map and Path(source.gene_map).absolute()}


def _replicate(
    expression: Expression, found: Candidates, source: PairSource, seed: int
) -> tuple[Candidates, NDArray[np.int64], str]:
    """Pairs labelled in one half of the cells, the cells of the other half, and the rule in words."""
    label_half, cells = split_cells(expression.n_cells, seed, source.image_cells)
    pairs, labels = replicate_labels(found.pairs, expression.select(label_half), source.threshold, source.fdr)
    part = "image half" if source.image_cells is None else f"{source.image_cells:,} of the image half"
    rule = f"{part} of a random split, seed {seed}; labels {labels} in the other half"
    return replace(found, pairs=pairs), cells, rule


def make_heatmaps(
    expression: Expression,
    target: Path,
    codes_path: Path | None,
    request: Request,
    binning: Binning,
    compute: Compute,
    client: Client | None,
    progress: Progress,
) -> Outcome:
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
        Shards are missing at the end.
    """
    target = target.absolute()  # workers have other working folders
    codes_path = (codes_path or target.with_name(f"{target.stem}.codes.zarr")).absolute()
    spec, limit = _spec_of(str(codes_path), "", binning, request), smallest_memory(client, compute)
    portion(binning, spec.n_cells, 1.0, limit)  # refuses at once what would not fit, whatever the genes' densities
    usage = Usage()
    if holds_store(target):  # other pairs, bins or numbers of cells are refused before the matrix is read
        _refuse_another_job(target, replace(spec, codes_hash=open_images(target, complete=False).spec.codes_hash))

    def check(content_hash: str) -> None:  # before the codes of another job on these images are replaced by ours
        _refuse_another_job(target, replace(spec, codes_hash=content_hash))

    codes = encode_matrix(
        expression, codes_path, binning, request.cells, client, progress, check=check, usage=usage, memory=limit
    )
    spec = replace(spec, codes_hash=codes.content_hash)
    images, missing = _laid_out(target, spec, request, codes, expression.symbols)
    share, tasks, _ = plan_count(codes, request.chosen.pairs, missing, limit, worker_threads(client), Rates())
    progress.start("heatmaps", sum(len(spec.shard_rows(shard)) for shard in missing))
    spent = Spent()
    for task, cost in run_tasks(client, count_task, tasks, str(target), codes.path, share, usage=usage):
        progress.advance(sum(len(spec.shard_rows(shard)) for shard in task.shards))
        spent.add(cost)
    if left := images.missing_shards():
        raise JobError(
            f"{target}: {len(left)} of {spec.n_shards} shards are missing (first: {left[0]}); run the same again."
        )
    return Outcome(images, len(missing), spec.n_shards - len(missing), spent, usage)


def _laid_out(
    target: Path, spec: ImageSpec, request: Request, codes: Codes, symbols: Sequence[str] | None
) -> tuple[Images, list[int]]:
    """The store, made where it is missing, and its shards to compute, of which nothing is left."""
    if not holds_store(target):
        create_images(target, spec, request.chosen.pairs, codes, request.provenance, symbols)
        return open_images(target, complete=False), list(range(spec.n_shards))
    images = open_images(target, complete=False)
    missing = images.missing_shards()
    clear_shards(images, missing)
    return images, missing


def plan_count(
    codes: Codes, pairs: Pairs, shards: Sequence[int], limit: int | None, workers: int, rates: Rates
) -> tuple[Portion, list[Task], NDArray[np.float64]]:
    """What a worker takes at once, the tasks over the shards to compute, and the seconds each shard should take.

    Parameters
    ----------
    shards
        Numbers of the shards to compute, ascending.
    limit
        Bytes that one thread of a worker may use; None: no limit.
    """
    density, size = 1 - codes.array("dropout"), codes.binning.shard_pairs
    share = portion(codes.binning, codes.n_cells, block_density(pairs, density), limit)
    events = pair_events(pairs, density, codes.n_cells)
    seconds = shard_seconds(events, size, rates)[np.asarray(shards, np.int64)]
    return share, plan_tasks(tiles_of(pairs.gene_b, size), shards, seconds, workers), seconds


def _spec_of(codes: str, content_hash: str, binning: Binning, request: Request) -> ImageSpec:
    pairs = request.chosen.pairs
    return ImageSpec(codes, content_hash, binning, request.cells.size, len(pairs), pairs.content_hash())


def _refuse_another_job(target: Path, spec: ImageSpec) -> None:
    """A store that is there already has to be what an earlier run of the very same job began."""
    if holds_store(target) and (images := open_images(target, complete=False)).spec.plan_hash != spec.plan_hash:
        raise InputError(
            f"{target} holds another job ({images.spec.n_pairs:,} pairs, {images.spec.n_cells:,} cells, scale "
            f"{images.spec.binning.scale}, {images.spec.binning.bins} bins) and would be mixed with this one; give "
            "another path, or delete it."
        )
