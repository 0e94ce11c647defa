"""Repair a damaged store: small files from their copies, shards from the codes, codes from the matrix.

Only what is damaged is computed again, to the very bytes that were lost.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes import store as code_store
from pairscape.pipeline.codes.encode import encode_blocks, encoding
from pairscape.pipeline.codes.store import Codes, block_file, open_codes
from pairscape.pipeline.compute.opening import worker_threads
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.genes.labels import split_cells
from pairscape.pipeline.heatmaps import images as image_store
from pairscape.pipeline.heatmaps.images import Images, open_images
from pairscape.pipeline.heatmaps.job import count_shards, plan_count
from pairscape.pipeline.heatmaps.shards import clear_shards
from pairscape.pipeline.heatmaps.tiles import Rates
from pairscape.pipeline.heatmaps.verify import StoreDamage, store_kind, verify_store
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.storage.digests import described_shards, has_layout, restore_layout
from pairscape.pipeline.storage.lock import Lock, locked
from pairscape.pipeline.storage.paths import holds_store, lasting, located


def repair_store(
    path: Path,
    codes: Path | None,
    expression: Path | None,
    session: Session,
) -> StoreDamage:
    """Find what is damaged and make it again; returns what was found, and is whole now.

    Parameters
    ----------
    path
        Store of images or codes.
    codes
        Code store that the images were counted from. Absent: where the images say, or beside them.
    expression
        Matrix that the codes were made from. Absent: where the codes, or the images, say.

    Raises
    ------
    InputError
        Neither images nor codes; what is needed for the repair is not where it was, and what to give is named.
    JobError
        Something cannot be repaired, another driver writes to the store, or the disk or storage refuses.
    """
    path = path.absolute()
    with lasting(path), locked(path) as lock:
        codes = codes and codes.absolute()
        before = _restored(path, session, codes)
        if before.codes:
            raise JobError(f"{before.codes}.")
        if before.shards and before.kind == "images":
            images = open_images(path, complete=False)
            source = _codes_of(images, codes, expression, session)
            _count_again(images, source, sorted(before.shards), session, lock)
        elif before.shards:
            _encode_again(open_codes(path), expression, sorted(before.shards), session)
        after = verify_store(path, session, codes)
    if left := after.lines():
        raise JobError(f"{path} could not be repaired: {left[0]}; delete it, and make it again.")
    return replace(before, n_shards=after.n_shards, holds=after.holds)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.codes.zarr")


def _restored(path: Path, session: Session, codes: Path | None) -> StoreDamage:
    """StoreDamage, with the small files restored that are among them."""
    before = verify_store(path, session, codes)
    if not before.files:
        return before
    images, place = store_kind(path) == "images", str(codes or _beside(path))
    free, value = (image_store.FREE, place) if images else (code_store.FREE, {})
    if lost := restore_layout(path, free, value):
        raise JobError(
            f"{path}: {lost[0]} and its copy are damaged, so it cannot be repaired; delete the store and make it again."
        )
    return replace(verify_store(path, session, codes), files=before.files)


def _codes_of(images: Images, codes: Path | None, expression: Path | None, session: Session) -> Codes:
    """The codes that the images were counted from, checked; made again where they are gone.

    Raises
    ------
    InputError
        They are gone, and so is the matrix, or it is another one.
    """
    places = [codes] if codes is not None else [located(images.spec.codes), _beside(images.path)]
    for place in places:
        if kept := _same_codes(place, images.spec.codes_hash):
            if has_layout(place) and (wrong := verify_store(place, session).lines()):
                raise JobError(
                    f"the codes {place} are damaged too ({wrong[0]}); run `pairscape verify {place} --repair` first."
                )
            return kept
    free = [place for place in places if not holds_store(place)]
    if not free:
        raise InputError(
            f"{places[0]} holds other codes than {images.path} was counted from; give them a new path: --codes PATH."
        )
    matrix = expression or _recorded_matrix(images)
    source = open_expression(matrix)
    cells = _counted_cells(images, source.n_cells)
    with encoding(source, free[0], images.spec.binning, cells, session) as wanted:
        if wanted.content_hash != images.spec.codes_hash:
            raise InputError(
                f"{matrix} is not the matrix that {images.path} was counted from, or has changed since; give the one "
                "that it was (--expression PATH), or its codes (--codes PATH)."
            )
        return wanted.finish()


def _same_codes(place: Path, content_hash: str) -> Codes | None:
    try:
        codes = open_codes(place)
    except InputError:  # nothing, or something else: not the codes that are looked for
        return None
    return codes if codes.content_hash == content_hash else None


def _recorded_matrix(images: Images) -> Path:
    matrix = _still_there(said := images.provenance.get("matrix", {}).get("path", ""))
    if matrix is None:
        said = f", and the matrix is not at {said} any more" if said else ""
        raise InputError(
            f"the codes of {images.path} are gone{said}; give the codes (--codes PATH), or the matrix that they were "
            "made from (--expression PATH)."
        )
    return matrix


def _still_there(matrix: str) -> Path | None:
    """The place of a matrix, if there is one."""
    return located(matrix) if matrix and located(matrix).exists() else None


def _counted_cells(images: Images, n_cells: int) -> NDArray[np.int64]:
    """The cells of the matrix that were counted, as the request chose them; the codes' hash tells whether it is so."""
    if images.provenance["cells"] == "all":
        return np.arange(n_cells)
    asked = images.provenance["pairs"].get("image_cells")
    return split_cells(n_cells, images.provenance["seed"], None if asked is None else int(asked))[1]


def _count_again(images: Images, codes: Codes, shards: list[int], session: Session, lock: Lock) -> None:
    clear_shards(images, shards)
    threads = worker_threads(session.client)
    groups = max(len(images.groups), 1)
    share, tasks, _ = plan_count(codes, images.pairs(), shards, session.memory, threads, Rates(), groups)
    session.progress.start("repairing", sum(len(images.spec.shard_rows(shard)) for shard in shards))
    count_shards(images, codes, share, tasks, session, lock)


def _encode_again(codes: Codes, expression: Path | None, blocks: list[int], session: Session) -> None:
    """Blocks of codes from the matrix.

    Raises
    ------
    InputError
        The matrix is gone, or gives other codes now; the store is as damaged as before.
    """
    path, wanted = located(codes.path), described_shards(located(codes.path))
    matrix = expression or _still_there(codes.provenance.get("matrix", ""))
    if not wanted or matrix is None:
        why = "the matrix that it was made from is gone" if wanted else "it has no digests to repair it by"
        raise InputError(
            f"{path} is damaged, and {why}; give the matrix (--expression PATH), or delete the store: `pairscape "
            "heatmaps` makes it again."
        )
    for block, made in encode_blocks(matrix.absolute(), path, blocks, session).items():
        if made != wanted.get(block_file(block), [0, made[1]]):
            (path / block_file(block)).unlink()
            raise InputError(
                f"{matrix} is not the matrix that {path} was made from, or has changed since; give the one that it was "
                "(--expression PATH), or delete the store: `pairscape heatmaps` makes it again."
            )
