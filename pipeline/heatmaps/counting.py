"""The shards of an image store, counted by workers: whatever happens there, at the end every shard has its receipt, or
the job says which have none, and why.
"""

from collections import defaultdict
from itertools import chain
from typing import Any

from distributed import Client

from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.progress import Progress
from pairscape.pipeline.compute.tasks import FailedTasksError, Usage, reason, run_tasks
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps.count import Spent, count_task
from pairscape.pipeline.heatmaps.images import Images, clear_shards
from pairscape.pipeline.heatmaps.memory import Portion
from pairscape.pipeline.heatmaps.tiles import Task
from pairscape.pipeline.storage.chunks import clear_unfinished
from pairscape.pipeline.storage.lock import Lock
from pairscape.pipeline.storage.paths import is_remote

MOST_RANGES = 20  # of missing shards that a message names; the log of events has all


def count_shards(
    images: Images,
    codes: Codes,
    share: Portion,
    tasks: list[Task],
    client: Client | None,
    progress: Progress,
    usage: Usage,
    lock: Lock,
) -> Spent:
    """Count the shards of some tasks; returns what it cost.

    A task that fails is cut into its shards, so that one that cannot be counted takes no other with it.

    Parameters
    ----------
    tasks
        Over shards of which nothing is left.
    lock
        Of the store; looked at whenever a task has ended.

    Raises
    ------
    JobError
        Shards are missing at the end: which, and why.
    """
    spent, reasons = Spent(), dict[int, str]()
    while tasks:
        try:
            for task, cost in run_tasks(
                client, count_task, tasks, str(images.path), codes.path, share, usage=usage, describe=_description
            ):
                lock.require()
                progress.advance(sum(len(images.spec.shard_rows(shard)) for shard in task.shards))
                spent.add(cost)
            tasks = []
        except FailedTasksError as failed:
            reasons |= {shard: reason(error) for task, error in failed.failures for shard in task.shards}
            tasks = (
                [] if failed.hopeless else _cut(images, [task for task, _ in failed.failures if len(task.shards) > 1])
            )
    if not is_remote(images.path):
        clear_unfinished(images.path)  # what killed workers left
    if missing := images.missing_shards():
        raise _incomplete(images, missing, reasons, usage)
    return spent


def _description(task: Task, cost: Spent) -> dict[str, Any]:
    return {"shards": list(task.shards), "bytes": cost.bytes_written}


def _cut(images: Images, failed: list[Task]) -> list[Task]:
    """A task for each shard of the failed ones that is still missing, of which nothing is left."""
    missing = set(images.missing_shards())
    shards = chain.from_iterable(zip(task.shards, task.tiles, strict=True) for task in failed)
    single = [Task((shard,), (tiles,)) for shard, tiles in shards if shard in missing]
    clear_shards(images, [task.shards[0] for task in single])
    return single


def _incomplete(images: Images, missing: list[int], reasons: dict[int, str], usage: Usage) -> JobError:
    by_reason = defaultdict[str, list[int]](list)
    for shard in missing:
        by_reason[reasons.get(shard, "not started" if reasons else "their tasks ended, and left nothing")].append(shard)
    usage.events.write("missing", shards=by_reason)
    listed = "; ".join(f"{_ranges(shards)} ({why})" for why, shards in by_reason.items())
    return JobError(
        f"{images.path}: {len(missing)} of {images.spec.n_shards} shards are missing (first: {missing[0]}): {listed}; "
        "what is finished is kept, run the same again."
    )


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers, such as 3, 7–9."""
    starts = [n for i, n in enumerate(numbers) if i == 0 or n != numbers[i - 1] + 1]
    stops = [n for i, n in enumerate(numbers) if i == len(numbers) - 1 or numbers[i + 1] != n + 1]
    ranges = [str(a) if a == b else f"{a}–{b}" for a, b in zip(starts, stops, strict=True)]
    return ", ".join(ranges[:MOST_RANGES]) + (f" and {len(ranges) - MOST_RANGES} more" * (len(ranges) > MOST_RANGES))
