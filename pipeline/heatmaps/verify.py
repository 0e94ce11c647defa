"""Verify a store file by file: shards against their receipts, small files against their digests."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes import store as code_store
from pairscape.pipeline.codes.check import codes_damage, differing_blocks
from pairscape.pipeline.codes.store import Codes, block_cells, cell_blocks, open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import run_tasks
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.heatmaps import images as image_store
from pairscape.pipeline.heatmaps.count import PAIR, count_pairs_by_group
from pairscape.pipeline.heatmaps.images import Images, open_images
from pairscape.pipeline.heatmaps.shards import SHARDED, damage
from pairscape.pipeline.storage.digests import described_shards, has_layout, layout_damage
from pairscape.pipeline.storage.paths import is_remote, located

Kind = Literal["images", "codes"]
Check = tuple[Callable[..., dict[int, str]], int, Any, str]  # of some shards; how many; what it has to know; of what
TOGETHER = 16  # shards that a task reads
RECOUNTED = 2  # images of a shard that are counted again from the codes


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
    codes
        What is wrong with the codes that images were counted from, and what to do; "" if nothing is, or they are gone.
    """

    kind: Kind
    files: dict[str, str] = field(default_factory=dict)
    shards: dict[int, str] = field(default_factory=dict)
    n_shards: int = 0
    holds: str = ""
    covered: bool = True
    codes: str = ""

    def lines(self) -> list[str]:
        """Each damage in a line."""
        what = "shard" if self.kind == "images" else "block"
        return [
            *(f"{name} {wrong}" for name, wrong in self.files.items()),
            *(f"{what} {number}: {wrong}" for number, wrong in sorted(self.shards.items())),
            *([self.codes] if self.codes else []),
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


def verify_store(path: Path, session: Session, codes: Path | None = None) -> StoreDamage:
    """Look at every byte of a store of images or codes; of every shard some images are counted again.

    Parameters
    ----------
    codes
        That images were counted from. Absent: where the images say, or beside them; gone: nothing is counted again.

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
    source = _codes_at_hand(path, codes) if kind == "images" and not files else None
    wrong_codes = codes_damage(source, session) if source is not None and has_layout(Path(source.path)) else ""
    check, n_shards, common, holds = (
        _image_check(path, None if wrong_codes else source) if kind == "images" else _code_check(path)
    )
    session.progress.start("verifying", n_shards)
    found = dict[int, str]()
    for shards, wrong in run_tasks(session, check, _groups(n_shards), str(path), common):
        session.progress.advance(len(shards))
        found |= wrong
    if source is not None and wrong_codes:
        wrong_codes = (
            f"the codes {source.path} are damaged too ({wrong_codes}), so that images cannot be compared with them; "
            f"run `pairscape verify {source.path} --repair` first"
        )
    return StoreDamage(kind, files, found, n_shards, holds, covered, wrong_codes)


def _codes_at_hand(path: Path, given: Path | None) -> Codes | None:
    """The codes that a store of images was counted from, if they lie on a disk here."""
    images = open_images(path, complete=False)
    there = located(images.spec.codes)
    for place in [given] if given is not None else [there, path.parent / there.name]:
        with suppress(InputError):  # nothing, or something else
            if not is_remote(place) and (codes := open_codes(place)).content_hash == images.spec.codes_hash:
                return codes
    return None


def _groups(n_shards: int) -> Iterator[list[int]]:
    numbers = iter(range(n_shards))
    while some := list(islice(numbers, TOGETHER)):
        yield some


def _image_check(path: Path, codes: Codes | None) -> Check:
    spec = open_images(path, complete=False).spec
    holds = f"{spec.n_pairs:,} images" + (f" in each of {len(spec.groups.names)} groups" if spec.groups else "")
    return _damaged_shards, spec.n_shards, codes and codes.path, holds


def _code_check(path: Path) -> Check:
    codes = open_codes(path)
    blocks, holds = len(cell_blocks(codes.n_cells)), f"codes of {codes.n_genes:,} genes in {codes.n_cells:,} cells"
    if has_layout(path):
        return differing_blocks, blocks, described_shards(path), holds
    return _unreadable_blocks, blocks, None, holds


# ── on the workers ───────────────────────────────────────────────────────────────────────────────────────────────────


def _damaged_shards(path: str, codes: str | None, shards: list[int]) -> dict[int, str]:
    images = open_images(path, complete=False)
    source = None if codes is None else open_codes(Path(codes))
    found = {shard: wrong for shard in shards if (wrong := damage(images, shard))}
    rows = {shard: _telling_rows(images, shard) for shard in shards if shard not in found}
    if source is None or not rows:
        return found
    return found | _counted_otherwise(images, source, rows)


def _telling_rows(images: Images, shard: int) -> NDArray[np.int64]:
    """Some rows of a shard, those whose genes are expressed in most cells: their images tell codes apart best."""
    rows, expressed = images.spec.shard_rows(shard), 1 - images.array("dropout")
    a, b = (images.pair_column(name, rows.start, rows.stop) for name in PAIR)
    return rows.start + np.sort(np.argsort(-expressed[a] * expressed[b], kind="stable")[:RECOUNTED])


def _counted_otherwise(images: Images, codes: Codes, rows: dict[int, NDArray[np.int64]]) -> dict[int, str]:
    """Shards with an image that is another one when it is counted again."""
    chosen = np.concatenate(list(rows.values()))
    a, b = (images.array(name)[chosen].astype(np.int64) for name in PAIR)
    counted, _ = count_pairs_by_group(codes, a, b, images.cell_groups())
    stored = [np.concatenate([own.counts(slice(r, r + 1)) for r in chosen.tolist()]) for own in images.each_group()]
    shard = np.repeat(list(rows), [some.size for some in rows.values()])
    wrong = np.unique(shard[(counted != np.stack(stored)).any(axis=(0, 2, 3))])
    return dict.fromkeys(wrong.tolist(), "its images are not those of its codes")


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
