"""Cores and memory that this process may use, within the limits of its container or job.

Dask looks at the root of the control groups, which is right inside most containers; a job of SLURM or a systemd slice
has its limits in a group of its own, below the root. So every group from ours up to the root is asked here, without
Dask, since small jobs start none.
"""

import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil

from pairscape.pipeline.options import Compute

ROOT = Path("/")
LIMITS = (  # files of a control group that limit memory; the last two are soft, and as Dask does, they are kept to
    "memory.max", "memory.high", "memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.low",
)  # fmt: skip


def cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy: affinity and quotas counted, at least one.

    Parameters
    ----------
    root
        Where /proc and /sys lie.
    """
    quotas = [quota for group in _groups("cpu", root) if (quota := _quota(group)) is not None]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min([usable, *(math.ceil(quota) for quota in quotas)]), 1)


def memory(root: Path = ROOT) -> int:
    """Bytes of memory that this process and its children may hold together."""
    limits = [_number(group / name) for group in _groups("memory", root) for name in LIMITS]
    resident = resource.getrlimit(resource.RLIMIT_RSS)[1]
    limits.append(resident if resident > 0 else None)
    return min([psutil.virtual_memory().total, *(int(limit) for limit in limits if limit)])


def worker_count(compute: Compute) -> int:
    """Workers of a local cluster: as asked, or one for each core that this process may use."""
    return 1 if compute.scheduler == "synchronous" else compute.workers or cores()


def memory_per_worker(compute: Compute) -> int:
    """Bytes of memory that each local worker may use; the machine's limit is the container's, if there is one.

    Raises
    ------
    InputError
        A limit that is no number of bytes, or not positive.
    """
    if compute.memory_limit is None:
        return memory() // worker_count(compute)
    from pairscape.pipeline.compute.queues import asked_bytes

    return asked_bytes(compute.memory_limit)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of the control groups (versions 1 and 2) that hold this process, from its own up to the root."""
    top, listing = root / "sys/fs/cgroup", root / "proc/self/cgroup"
    if not listing.is_file():  # not Linux
        return
    for line in listing.read_text(encoding="utf-8").splitlines():
        number, names, path = line.split(":", 2)
        if number != "0" and controller not in names.split(","):
            continue
        base = top if number == "0" else top / (names if (top / names).is_dir() else controller)
        own = base / path.strip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(base))


def _quota(group: Path) -> float | None:
    """Cores' worth of time that a group may use; None: no limit, or none told here."""
    if (version_2 := group / "cpu.max").is_file():
        quota, period = version_2.read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    quota_us, period_us = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    return quota_us / period_us if quota_us and period_us else None


def _number(file: Path) -> float | None:
    """The positive number in a file; None where there is none, or it means no limit (max, -1)."""
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8").strip()
    return float(text) if text.isdigit() and int(text) > 0 else None
