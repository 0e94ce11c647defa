"""The heatmap job: matrix and pairs → image store. Plans, lays out, fans out, and ends with every shard receipted."""

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from pipeline.binning import zero_bin
from pipeline.cluster import smallest_memory, worker_threads
from pipeline.codes import Codes, open_codes
from pipeline.encode import encode_matrix
from pipeline.errors import InputError, JobError
from pipeline.fanout import run_tasks
from pipeline.histogram import GeneBlock, Margins, code_margins, finish
from pipeline.images import Images, clear_shard, create_images, open_images, write_shard
from pipeline.matrix import Expression
from pipeline.pairs import Candidates, candidates
from pipeline.progress import Progress
from pipeline.replicate import replicate_labels, split_cells
from pipeline.spec import Binning, Compute, ImageSpec, PairSource, digest
from pipeline.tiles import CELLS_AT_ONCE, LAYOUTS, Task, Tile, plan_tasks, require_memory, storage_order


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
    bytes_written
        By this run, on disk.
    """

    images: Images
    computed: int
    kept: int
    bytes_written: int


def resolve_request(expression: Expression, source: PairSource, seed: int) -> Request:
    """Candidate pairs with labels and the cells to count.

    Raises
    ------
    InputError
        As `pipeline.pairs.candidates`; too few cells for replicate labels.
    """
    found = candidates(source, expression.genes, expression.symbols)
    pairs, cells, rule = found.pairs, np.arange(expression.n_cells), "all"
    if source.labels == "replicate":
        if expression.n_cells < 4:
            raise InputError(
                f"replicate labels split the cells in halves and there are {expression.n_cells}; give 4 or more."
            )
        label_half, cells = split_cells(expression.n_cells, seed)
        pairs = replicate_labels(pairs, expression.select(label_half), source.threshold)
        rule = f"image half of a random split, seed {seed}; labels |Spearman| >= {source.threshold:g} in the other half"
    provenance = {
        "cells": rule,
        "seed": seed,
        "pairs": {key: str(value) for key, value in asdict(source).items() if value},
    }
    return Request(cells, Candidates(storage_order(pairs), found.notes), provenance)


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
    spec, memory = _spec_of(str(codes_path), "", binning, request), smallest_memory(client, compute)
    require_memory(spec, memory)
    if target.exists():  # other pairs, bins or numbers of cells are refused before the matrix is read
        _refuse_another_job(target, replace(spec, codes_hash=open_images(target, complete=False).spec.codes_hash))

    def check(content_hash: str) -> None:  # before the codes of another job on these images are replaced by ours
        _refuse_another_job(target, replace(spec, codes_hash=content_hash))

    codes = encode_matrix(expression, codes_path, binning, request.cells, client, progress, check=check, memory=memory)
    spec = replace(spec, codes_hash=codes.content_hash)
    if not target.exists():
        create_images(target, spec, request.chosen.pairs, codes, request.provenance)
    images = open_images(target, complete=False)
    missing = images.missing_shards()
    for shard in missing:
        clear_shard(images, shard)
    tasks = plan_tasks(request.chosen.pairs.gene_b, binning.shard_pairs, worker_threads(client), missing)
    progress.start("heatmaps", sum(len(spec.shard_rows(shard)) for shard in missing))
    written = 0
    for task, n_bytes in run_tasks(client, count_task, tasks, str(target), codes.path):
        progress.advance(sum(len(spec.shard_rows(shard)) for shard in task.shards))
        written += n_bytes
    if left := images.missing_shards():
        raise JobError(
            f"{target}: {len(left)} of {spec.n_shards} shards are missing (first: {left[0]}); run the same again."
        )
    return Outcome(images, len(missing), spec.n_shards - len(missing), written)


def _spec_of(codes: str, content_hash: str, binning: Binning, request: Request) -> ImageSpec:
    pairs = request.chosen.pairs
    parts = {name: digest({"sha": getattr(pairs, name).tobytes().hex()}) for name in ("gene_a", "gene_b", "label")}
    return ImageSpec(codes, content_hash, binning, request.cells.size, len(pairs), digest(parts))


def _refuse_another_job(target: Path, spec: ImageSpec) -> None:
    """A store that is there already has to be what an earlier run of the very same job began."""
    if target.exists() and (images := open_images(target, complete=False)).spec.plan_hash != spec.plan_hash:
        raise InputError(
            f"{target} holds another job ({images.spec.n_pairs:,} pairs, {images.spec.n_cells:,} cells, scale "
            f"{images.spec.binning.scale}, {images.spec.binning.bins} bins) and would be mixed with this one; give "
            "another path, or delete it."
        )


def count_task(target: str, codes_path: str, task: Task) -> int:
    """Count, write and receipt the shards of one task; returns bytes on disk. Runs on a worker, any number of times."""
    images, codes = open_images(target, complete=False), open_codes(Path(codes_path))
    return sum(_count_shard(images, codes, *part) for part in zip(task.shards, task.tiles, strict=True))


@lru_cache(maxsize=2)
def _pair_columns(path: str, plan_hash: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Read once per process and job; the hash is in the key because the path may hold another job later."""
    images = open_images(path, complete=False)
    return images.array("gene_a"), images.array("gene_b")


def _count_shard(images: Images, codes: Codes, shard: int, tiles: tuple[Tile, ...]) -> int:
    rows, bins = images.spec.shard_rows(shard), images.spec.binning.bins
    counts = np.zeros((len(rows), bins, bins), np.uint32)
    both_zero = np.empty(len(rows), np.uint32)
    gene_a, gene_b = _pair_columns(str(images.path), images.spec.plan_hash)
    for tile in tiles:
        inside, outside = slice(tile.start - rows.start, tile.stop - rows.start), slice(tile.start, tile.stop)
        both_zero[inside] = count_tile(codes, tile.genes_b, gene_a[outside], gene_b[outside], counts[inside])
    return write_shard(images, shard, counts, both_zero)


def count_tile(
    codes: Codes,
    genes_b: tuple[int, ...],
    gene_a: NDArray[np.int32],
    gene_b: NDArray[np.int32],
    images: NDArray[np.uint32],
) -> NDArray[np.uint32]:
    """Count the pairs of one tile over all cells, a slab of cells at a time.

    Parameters
    ----------
    genes_b
        The tile's block of genes b, ascending.
    gene_a, gene_b : (P,) int32
        In the order of the store, so gene_a ascends.
    images : (P, bins, bins) uint32
        Zeros; filled in place.

    Returns
    -------
    (P,) uint32
        Cells in which neither gene is expressed.
    """
    genes_a, first, row_a = np.unique(gene_a, return_index=True, return_inverse=True)
    row_b = np.searchsorted(genes_b, gene_b)
    bounds = np.append(first, gene_a.size)
    bins, zero = codes.binning.bins, _zero_bins(codes)
    margin_a, margin_b = np.zeros((genes_a.size, bins), np.int64), np.zeros((len(genes_b), bins), np.int64)
    for start in range(0, codes.n_cells, CELLS_AT_ONCE):
        stop = min(start + CELLS_AT_ONCE, codes.n_cells)
        block, margin = _layout(codes, genes_b, start, stop)
        codes_a = codes.read(genes_a.astype(np.int64), slice(start, stop))
        block.add_counts(codes_a, bounds, row_b, images)
        margin_a += code_margins(codes_a, bins)
        margin_b += margin
    a, b = Margins(margin_a, zero[genes_a]), Margins(margin_b, zero[list(genes_b)])
    return finish(images, row_a, row_b, a, b, codes.n_cells)


@lru_cache(maxsize=LAYOUTS)
def _layout(codes: Codes, genes_b: tuple[int, ...], start: int, stop: int) -> tuple[GeneBlock, NDArray[np.int64]]:
    """Genes b over a slab of cells, cell by cell, and their margins; kept for the next shards of the same block."""
    dense = codes.read(np.asarray(genes_b, np.int64), slice(start, stop))
    return GeneBlock.from_codes(dense, codes.binning.bins), code_margins(dense, codes.binning.bins)


@lru_cache(maxsize=2)
def _zero_bins(codes: Codes) -> NDArray[np.int64]:
    return zero_bin(codes.array("edges"))
