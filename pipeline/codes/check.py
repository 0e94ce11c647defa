"""Compare the blocks of a code store with its record, to the byte: before codes are used again, and to verify them."""

from collections.abc import Iterator
from itertools import islice

from pairscape.pipeline.codes.store import FREE, Codes, block_file, cell_blocks
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import run_tasks
from pairscape.pipeline.storage.digests import Described, describe, described_shards, has_layout, layout_damage
from pairscape.pipeline.storage.paths import content_of, is_remote, located

TOGETHER = 16  # blocks that a task reads


def codes_damage(codes: Codes, session: Session) -> str:
    """The first thing by which a store differs from its record, in words; "" if nothing does.

    Blocks behind a URL are compared where they are read, by every host's copy (`Codes.read`).

    Raises
    ------
    JobError
        Tasks failed.
    """
    path = located(codes.path)
    if not has_layout(path):
        return "an earlier version made them, without a record of their bytes"
    wrong = layout_damage(path, FREE, copies=False)
    if not wrong and not is_remote(path):
        wrong = {block_file(block): what for block, what in damaged_blocks(codes, session).items()}
    return next((f"{name} {what}" for name, what in wrong.items()), "")


def damaged_blocks(codes: Codes, session: Session) -> dict[int, str]:
    """Blocks whose file is not what was written, and what is wrong with each."""
    found, path = dict[int, str](), located(codes.path)
    n_blocks = len(cell_blocks(codes.n_cells))
    session.progress.start("checking codes", n_blocks)
    for blocks, wrong in run_tasks(session, differing_blocks, _groups(n_blocks), codes.path, described_shards(path)):
        session.progress.advance(len(blocks))
        found |= wrong
    return dict(sorted(found.items()))


def _groups(n_blocks: int) -> Iterator[list[int]]:
    numbers = iter(range(n_blocks))
    while some := list(islice(numbers, TOGETHER)):
        yield some


def differing_blocks(path: str, described: Described, blocks: list[int]) -> dict[int, str]:
    """Some blocks whose file is not what was written; one of zeros is no file. Runs on a worker."""
    found = {}
    for block in blocks:
        content = content_of(located(path) / block_file(block))
        if (None if content is None else describe(content)) != described.get(block_file(block)):
            found[block] = "is missing" if content is None else "is not what was written"
    return found
