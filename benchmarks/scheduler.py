"""What Dask itself costs with a thousand workers: fake tasks, planned like real ones, that only wait.

python -m benchmarks.scheduler [--workers 1000] [--seconds 240]

A scheduler in a process of its own and a thousand worker threads in another, 50 to a Dask worker (a thousand Dask
workers in one process keep its core busy with their heartbeats alone). The tasks are those that
`pipeline.heatmaps.job.tiles.task_runs` makes of shards whose work would keep every worker busy for so many seconds;
each sleeps as long as it was planned, give or take a fifth, as no two machines are alike. Prints JSON: tasks, their
length, wall time, and how much longer it took than the sleep alone.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from distributed import Client, Scheduler, Worker

from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.tasks import run_tasks
from pairscape.pipeline.heatmaps.tiles import task_runs

THREADS = 50
SHARD_SECONDS = 0.5  # a shard of a million-cell atlas
SPREAD = 0.2  # of the real length of a task around the planned


async def serve_scheduler() -> None:
    """A scheduler on a port of its own choice, which it prints."""
    async with Scheduler(port=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()


async def serve_workers(address: str, number: int) -> None:
    """So many worker threads."""
    threads = [min(THREADS, number - start) for start in range(0, number, THREADS)]
    workers = [Worker(address, nthreads=n, memory_limit=None, host="127.0.0.1") for n in threads]
    await asyncio.gather(*workers)
    await asyncio.gather(*(worker.finished() for worker in workers))


@contextmanager
def cluster(number: int) -> Iterator[Client]:
    """A client of a scheduler with so many workers, all of them there."""
    start = [sys.executable, "-m", "benchmarks.scheduler", "--serve"]
    scheduler = subprocess.Popen([*start, "scheduler"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert scheduler.stdout is not None
    address = scheduler.stdout.readline().strip()
    workers = subprocess.Popen([*start, address, "--workers", str(number)], stderr=subprocess.DEVNULL)
    try:
        with Client(address, timeout=60) as client:
            client.wait_for_workers(-(-number // THREADS), timeout=300)
            yield client
    finally:
        for process in (workers, scheduler):
            process.kill()
            process.wait()
        scheduler.stdout.close()


def wait(seconds: float) -> None:
    """A task."""
    time.sleep(seconds)


def measure(number: int, seconds: float) -> dict[str, Any]:
    """Run planned waits on so many workers."""
    shards = np.full(round(number * seconds / SHARD_SECONDS), SHARD_SECONDS)
    planned = np.array([shards[run].sum() for run in task_runs(shards, number)])
    tasks = (planned * np.random.default_rng(0).uniform(1 - SPREAD, 1 + SPREAD, planned.size)).tolist()
    with cluster(number) as client:
        started = time.perf_counter()
        done = sum(1 for _ in run_tasks(Session(client), wait, tasks))
        wall = time.perf_counter() - started
    ideal = sum(tasks) / number
    return {
        "workers": number, "tasks": done, "task_s": round(float(np.median(tasks)), 2), "wall_s": round(wall, 2),
        "ideal_s": round(ideal, 2), "overhead": round(wall / ideal - 1, 4),
    }  # fmt: skip


def main() -> None:
    """Print the figures, or serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve == "scheduler":
        asyncio.run(serve_scheduler())
    elif a.serve:
        asyncio.run(serve_workers(a.serve, a.workers))
    else:
        print(json.dumps(measure(a.workers, a.seconds)))


if __name__ == "__main__":
    main()
