"""Cores and memory that this process may use, within the limits of its container or job.

Dask looks at the root of the control groups, which is right inside most containers; a job of SLURM or a systemd slice
has its limits in a group of its own, below the root. So every group from ours up to the root is asked here.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from dask.system import cpu_count
from distributed.system import memory_limit

ROOT = Path("/")


def cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy: affinity and quotas counted, at least one.

    Parameters
    ----------
    root
        Where /proc and /sys lie.
    """
    quotas = [quota for group in _groups("cpu", root) if (quota := _quota(group)) is not None]
    return max(min([cpu_count(), *(math.ceil(quota) for quota in quotas)]), 1)


def memory(root: Path = ROOT) -> int:
    """Bytes of memory that this process and its children may hold together."""
    files = ("memory.max", "memory.high", "memory.limit_in_bytes")
    limits = [_number(group / name) for group in _groups("memory", root) for name in files]
    return min([memory_limit(), *(int(limit) for limit in limits if limit)])


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
