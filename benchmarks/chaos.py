"""Heatmap jobs whose workers, scheduler and driver are killed at random, and whose shards are damaged in between.

python -m benchmarks.chaos [--runs 50] [--genes 230] [--seed 0]

Each run counts the same 103 small shards on a scheduler and two workers, all of them processes of this machine that
listen on loopback. At random moments one is killed (SIGKILL), three to five times a run. Workers and scheduler are
started again, as a queue or Kubernetes would; a driver that was killed, or ended because its scheduler was gone, is
started again after some shards have been cut off, emptied, filled with garbage, deleted or had a bit flipped. When the
job says that it is done, `verify --repair` looks, and all bytes are compared with those of an undisturbed run. Prints
JSON: kills, damage, how many runs ended identical; shards lost, wrong bytes that nobody noticed (silent), drivers that
did not end within a minute (hung) or ended with something else than a line (crashed).
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import sys
import time
from collections import Counter
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock, Thread
from traceback import print_exc
from typing import Any

import dask
import numpy as np
from distributed import Scheduler, Worker

import pairscape
from benchmarks.corruption import Random, contents, small_shards
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.datasets.designs import Atlas
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.heatmaps.images import Images, open_images
from pairscape.pipeline.heatmaps.job import make_heatmaps  # noqa: F401 - so that children have it before they start
from pairscape.pipeline.heatmaps.repair import repair_store
from pairscape.pipeline.heatmaps.shards import receipt_file, shard_file
from pairscape.pipeline.heatmaps.verify import verify_store
from pairscape.pipeline.options import Binning, Compute, PairSource

WORKERS = 2
HANGS_AFTER, TICK = 60.0, 0.1  # seconds without the driver's end
VICTIMS = ("worker", "scheduler", "driver")
CONTEXT = get_context("forkserver")  # children begin with everything loaded


# ── the processes ────────────────────────────────────────────────────────────────────────────────────────────────────


def serve(port: int) -> None:
    """A scheduler."""

    async def run() -> None:
        async with Scheduler(port=port, host="127.0.0.1", dashboard_address="127.0.0.1:0") as scheduler:
            await scheduler.finished()

    asyncio.run(run())


def work(port: int, folder: str) -> None:
    """A worker with one thread."""

    async def run() -> None:
        address = f"tcp://127.0.0.1:{port}"
        async with Worker(address, nthreads=1, host="127.0.0.1", memory_limit=None, death_timeout=20) as worker:
            await worker.finished()

    os.chdir(folder)
    with small_shards(), dask.config.set({"distributed.dashboard.link": "", "temporary-directory": folder}):
        asyncio.run(run())


def drive(port: int | None, folder: str) -> None:
    """The job, as the command line runs it: 0 done, 1 or 2 with a line that says why not, 3 with a traceback."""
    Path(folder, "status").unlink(missing_ok=True)
    status = _driven(port, folder)
    Path(folder, "status").write_text(str(status))


def _driven(port: int | None, folder: str) -> int:
    compute = Compute("synchronous" if port is None else f"tcp://127.0.0.1:{port}")
    source, place = PairSource(all_pairs=True), Path(folder)
    with small_shards(), Path(folder, "said").open("w") as said:
        try:
            pairscape.heatmaps(
                place / "e.zarr",
                place / "i.zarr",
                source=source,
                binning=Binning("rank", 16),
                compute=compute,
                quiet=True,
            )
        except (InputError, JobError, OSError) as error:
            print(error, file=said)
            return 2 if isinstance(error, InputError) else 1
        except BaseException:  # noqa: BLE001 - whatever it is, it is told
            print_exc(file=said)
            return 3
    return 0


def quietly(function: Any, *arguments: Any) -> None:
    """Dask logs what it thinks of being killed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    function(*arguments)


class Cluster:
    """A scheduler and workers that are started again when they end."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._folder, self._over, self._lock = str(folder), Event(), Lock()
        self._processes = {"scheduler": self._started("scheduler")}
        self._processes |= {f"worker{i}": self._started("worker") for i in range(WORKERS)}
        self._thread = Thread(target=self._keep, daemon=True)
        self._thread.start()

    def kill(self, name: str) -> None:
        """SIGKILL."""
        with self._lock:
            self._processes[name].kill()
            self._processes[name].join()

    def close(self) -> None:
        """Kill all of them."""
        self._over.set()
        self._thread.join()
        for name in self._processes:
            self.kill(name)

    def _keep(self) -> None:
        while not self._over.wait(0.05):
            with self._lock:
                for name, process in self._processes.items():
                    if not process.is_alive():
                        self._processes[name] = self._started(name)

    def _started(self, name: str) -> Any:
        arguments = (serve, self.port) if name == "scheduler" else (work, self.port, self._folder)
        return started(*arguments)


def started(*arguments: Any) -> Any:
    """A process of its own."""
    process = CONTEXT.Process(target=quietly, args=arguments, daemon=True)
    process.start()
    return process


@contextmanager
def cluster(folder: Path) -> Any:
    """A cluster that is gone afterwards."""
    found = Cluster(folder)
    try:
        yield found
    finally:
        found.close()


# ── the chaos ────────────────────────────────────────────────────────────────────────────────────────────────────────


def harm(images: Images, shard: int, rng: Random) -> None:
    """Damage a file of a shard, if there is one."""
    files = [receipt_file(images, shard), *(shard_file(images, name, shard) for name in ("counts", "both_zero"))]
    path = files[rng.integers(3)]
    if not path.exists() or not (content := bytearray(path.read_bytes())):
        return
    how = rng.integers(5)
    if how == 0:
        path.unlink()
    elif how == 1:
        path.write_bytes(b"")
    elif how == 2:
        path.write_bytes(content[: rng.integers(len(content))])
    elif how == 3:
        path.write_bytes(rng.bytes(len(content)))
    else:
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)


def harm_some(store: Path, rng: Random, at_most: int) -> int:
    """Damage some shards of a store that nobody writes; returns how many."""
    if not store.exists():
        return 0
    with small_shards():
        images = open_images(store, complete=False)
        shards = rng.choice(images.spec.n_shards, rng.integers(at_most + 1), replace=False)
        for shard in shards.tolist():
            harm(images, shard, rng)
    return len(shards)


def one_run(folder: Path, truth: dict[str, str], rng: Random) -> Counter[str]:
    """A job that is killed some times and then left in peace; what happened."""
    store, tally = folder / "i.zarr", Counter[str]()
    for name in ("i.zarr", "i.codes.zarr", ".i.zarr.wip", ".i.codes.zarr.wip"):
        shutil.rmtree(folder / name, ignore_errors=True)
    with cluster(folder) as found:
        driver = None
        for victim in rng.choice(VICTIMS, rng.integers(3, 6)).tolist():
            if driver is None or not driver.is_alive():
                driver = restarted(driver, found, folder, rng, tally)
            wait_for_work(driver, store, rng)
            if victim == "driver":
                driver.kill()
            else:
                found.kill("scheduler" if victim == "scheduler" else f"worker{rng.integers(WORKERS)}")
            tally[victim] += 1
        for _ in range(5):
            if ended(driver, folder, tally) == 0:
                break
            driver = restarted(None, found, folder, rng, tally)
    with small_shards():
        images = open_images(store, complete=False)
        tally["lost"] += len(images.missing_shards())
        tally["harmed"] += harm_some(store, rng, 4)
        sound = not verify_store(store, Session()).lines()
        tally["silent"] += sound and contents(store) != truth
        repair_store(store, None, None, Session())
    tally["identical"] += contents(store) == truth
    tally["leftovers"] += sum(path.is_file() for path in store.rglob(".*"))
    return tally


def restarted(driver: Any, found: Cluster, folder: Path, rng: Random, tally: Counter[str]) -> Any:
    """A new driver, after the old one has ended and some shards have been damaged."""
    if driver is not None:
        ended(driver, folder, tally)
    tally["harmed"] += harm_some(folder / "i.zarr", rng, 6)
    tally["drivers"] += 1
    return started(drive, found.port, str(folder))


def wait_for_work(driver: Any, store: Path, rng: Random) -> None:
    """Until a random moment of the job: it begins with a second or so of encoding, and ends with shards."""
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0, 1.5))
        return
    before, deadline = receipts(store), time.monotonic() + 10
    while driver.is_alive() and receipts(store) <= before and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))


def receipts(store: Path) -> int:
    """Shards that are done."""
    return len(list((store / "receipts").glob("[0-9]*.json")))


def ended(driver: Any, folder: Path, tally: Counter[str]) -> int:
    """How a driver ended, by itself within a minute, with a line if it failed; -9 if it was killed."""
    for _ in range(round(HANGS_AFTER / TICK)):  # where the whole machine stood still, that is not the driver's fault
        driver.join(TICK)
        if not driver.is_alive():
            break
    else:
        tally["hung"] += 1
        driver.kill()
        driver.join()
    told = folder / "status"  # what multiprocessing says may be what another thread has read before: 255
    status = int(told.read_text() or "-9") if told.exists() else -9
    said = (folder / "said").read_text() if status > 0 else ""
    if status > 0:
        tally["said why"] += 1
    if status == 3 or len(said.splitlines()) > 1:
        tally["crashed"] += 1
        print(said, file=sys.stderr)
    return status


def measure(folder: Path, runs: int, genes: int = 230, seed: int = 0) -> dict[str, Any]:
    """So many runs, and what they have in common."""
    CONTEXT.set_forkserver_preload(["benchmarks.chaos"])
    pairscape.simulate(
        folder / "e.zarr", atlas=Atlas(300, genes, 0.2, 3), compute=Compute("synchronous"), counts=False, quiet=True
    )
    drive(None, str(folder))
    truth, total, begun = contents(folder / "i.zarr"), Counter[str](), time.perf_counter()
    for number in range(runs):
        tally = one_run(folder, truth, np.random.default_rng([seed, number]))
        print(number, dict(tally), file=sys.stderr)
        total.update(tally)
    names = ("identical", "lost", "silent", "hung", "crashed", "leftovers", *VICTIMS, "harmed", "drivers", "said why")
    facts = {name.replace(" ", "_"): total[name] for name in names}
    return {
        "runs": runs,
        "shards": genes * (genes - 1) // 512 + 1,
        **facts,
        "seconds": round(time.perf_counter() - begun),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--genes", type=int, default=230)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    with TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), a.runs, a.genes, a.seed)))


if __name__ == "__main__":
    main()
