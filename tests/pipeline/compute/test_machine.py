"""What a process may use: the limits of its container or job, wherever in the tree of control groups they stand."""

import os

import psutil
import pytest
from dask.system import cpu_count
from distributed.system import memory_limit

from pairscape.pipeline.compute import machine


def tree(root, groups, files):
    """A /proc and a /sys with these control groups."""
    for path, text in {"proc/self/cgroup": groups, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


TOP = "sys/fs/cgroup"
CPU = [
    ("0::/\n", {f"{TOP}/cpu.max": "100000 100000\n"}, 1),  # a container of docker, as it sees itself
    ("0::/\n", {f"{TOP}/cpu.max": "max 100000\n"}, None),
    ("0::/job\n", {f"{TOP}/job/cpu.max": "50000 100000\n"}, 1),  # half a core keeps one worker busy
    ("0::/slurm/job_1/step_0\n", {f"{TOP}/slurm/job_1/cpu.max": "100000 100000\n"}, 1),  # a limit further up
    ("0::/else\n", {f"{TOP}/job/cpu.max": "100000 100000\n"}, None),  # not ours
    ("3:cpu,cpuacct:/docker/1\n1:name=systemd:/x\n0::/\n", {
        f"{TOP}/cpu/cpu.cfs_quota_us": "100000\n", f"{TOP}/cpu/cpu.cfs_period_us": "100000\n"}, 1),  # version 1
    ("3:cpu,cpuacct:/job\n", {
        f"{TOP}/cpu,cpuacct/job/cpu.cfs_quota_us": "-1\n", f"{TOP}/cpu,cpuacct/job/cpu.cfs_period_us": "1\n"}, None),
]  # fmt: skip
MEMORY = [
    ("0::/\n", {f"{TOP}/memory.max": "1000000\n"}, 1_000_000),
    ("0::/\n", {f"{TOP}/memory.max": "max\n", f"{TOP}/memory.high": "900000\n"}, 900_000),
    ("0::/slurm/job_1/step_0\n", {
        f"{TOP}/slurm/job_1/memory.max": "2000000\n", f"{TOP}/slurm/job_1/step_0/memory.max": "max\n"}, 2_000_000),
    ("0::/a\n", {f"{TOP}/a/memory.max": "3000000\n", f"{TOP}/memory.max": "2000000\n"}, 2_000_000),  # the least counts
    ("8:pids:/\n4:memory:/job\n", {f"{TOP}/memory/job/memory.limit_in_bytes": "1000000\n"}, 1_000_000),
    ("4:memory:/job\n", {f"{TOP}/memory/memory.limit_in_bytes": str(2**63 - 4096)}, None),  # version 1's "no limit"
    ("4:memory:/job\n", {f"{TOP}/memory/other/memory.limit_in_bytes": "1000000\n"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("groups", "files", "expected"), CPU)
def test_cores_within_the_quota(groups, files, expected, tmp_path):
    assert machine.cores(tree(tmp_path, groups, files)) == (expected or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(("groups", "files", "expected"), MEMORY)
def test_memory_within_the_limit(groups, files, expected, tmp_path):
    assert machine.memory(tree(tmp_path, groups, files)) == (expected or psutil.virtual_memory().total)


def test_without_control_groups_it_is_the_machine(tmp_path):
    here = len(os.sched_getaffinity(0)), psutil.virtual_memory().total
    assert (machine.cores(tmp_path), machine.memory(tmp_path)) == here


def test_never_more_than_dask_would_take():
    assert (machine.cores() <= cpu_count(), machine.memory() <= memory_limit()) == (True, True)
