"""Verify a store file by file: shards against their receipts, small files against their digests."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pairscape.pipeline.codes import store as code_store
from pairscape.pipeline.codes.store import Codes, block_cells, block_file, cell_blocks, open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import run_tasks
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.heatmaps import images as image_store
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.shards import SHARDED, damage
from pairscape.pipeline.storage.digests import Described, describe, described_shards, has_layout, layout_damage
from pairscape.pipeline.storage.paths import content_of, located

Kind = Literal["images", "codes"]
Check = tuple[Callable[..., dict[int, str]], int, Any, str]  # of some shards; how many; what it has to know; of what
TOGETHER = 16  # shards that a task reads


@dataclass(frozen=True)
class StoreDamage:
    """What is wrong with a store.

    Attributes
    ----------
    kind
        What the store holds.
    files
        Damaged small files, and what is wrong with each.
    shards
        Damaged shards: of images by their number, of codes by that of the block of cells.
    n_shards
        That were looked at; 0 where the metadata are too damaged to tell.
    holds
        What the store holds, in words; "" where nobody can tell.
    covered
        Whether the store has digests of its small files; those of earlier versions have none.
    """

    kind: Kind
    files: dict[str, str] = field(default_factory=dict)
    shards: dict[int, str] = field(default_factory=dict)
    n_shards: int = 0
    holds: str = ""
    covered: bool = True

    def lines(self) -> list[str]:
        """Each damage in a line."""
        what = "shard" if self.kind == "images" else "block"
        return [f"{name} {wrong}" for name, wrong in self.files.items()] + [
            f"{what} {number}: {wrong}" for number, wrong in sorted(self.shards.items())
        ]


def store_kind(path: Path) -> Kind:
    """Whether a store holds images or codes, also when its metadata are damaged.

    Raises
    ------
    InputError
        Neither.
    """
    if any((path / name).is_dir() for name in SHARDED):
        return "images"
    if (path / "codes").is_dir():
        return "codes"
    raise InputError(f"{path} is not a Pairscape image store, nor one of codes; give what `pairscape heatmaps` made.")


def verify_store(path: Path, session: Session) -> StoreDamage:
    """Look at every byte of a store of images or codes.

    Raises
    ------
    InputError
        It is neither, or of another version.
    JobError
        Tasks failed.
    """
    kind = store_kind(path)
    free = image_store.FREE if kind == "images" else code_store.FREE
    covered = has_layout(path)
    files = layout_damage(path, free) if covered else {}
    if any(name.endswith("zarr.json") for name in files):  # what they say of the shards may be wrong
        return StoreDamage(kind, files, covered=covered)
    check, n_shards, common, holds = _image_check(path) if kind == "images" else _code_check(path)
    session.progress.start("verifying", n_shards)
    found = dict[int, str]()
    for shards, wrong in run_tasks(session, check, _groups(n_shards), str(path), common):
        session.progress.advance(len(shards))
        found |= wrong
    return StoreDamage(kind, files, found, n_shards, holds, covered)


def _groups(n_shards: int) -> Iterator[list[int]]:
    numbers = iter(range(n_shards))
    while some := list(islice(numbers, TOGETHER)):
        yield some


def _image_check(path: Path) -> Check:
    spec = open_images(path, complete=False).spec
    return _damaged_shards, spec.n_shards, None, f"{spec.n_pairs:,} images"


def _code_check(path: Path) -> Check:
    codes = open_codes(path)
    blocks, holds = len(cell_blocks(codes.n_cells)), f"codes of {codes.n_genes:,} genes in {codes.n_cells:,} cells"
    if has_layout(path):
        return _damaged_blocks, blocks, described_shards(path), holds
    return _unreadable_blocks, blocks, None, holds


# ── on the workers ───────────────────────────────────────────────────────────────────────────────────────────────────


def _damaged_shards(path: str, _: None, shards: list[int]) -> dict[int, str]:
    images = open_images(path, complete=False)
    return {shard: wrong for shard in shards if (wrong := damage(images, shard))}


def _damaged_blocks(path: str, described: Described, blocks: list[int]) -> dict[int, str]:
    """Blocks of codes whose file is not what it was; one of zeros is no file."""
    found = {}
    for block in blocks:
        content = content_of(located(path) / block_file(block))
        if (None if content is None else describe(content)) != described.get(block_file(block)):
            found[block] = "is missing" if content is None else "is not what was written"
    return found


def _unreadable_blocks(path: str, _: None, blocks: list[int]) -> dict[int, str]:
    """Blocks of codes of an earlier version, which has no digests, that have a chunk with a wrong checksum."""
    codes: Codes = open_codes(Path(path))
    found, genes = {}, np.arange(codes.n_genes)
    for block in blocks:
        cells = block_cells(block)
        try:
            codes.read(genes, slice(cells.start, min(cells.stop, codes.n_cells)))
        except JobError as error:
            found[block] = str(error)
    return found
