"""Walltimes as each queue writes them, and workers that end before theirs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscape.pipeline.compute.queues import walltime_seconds, worker_life


@pytest.mark.parametrize(("text", "queue", "seconds"), [
    ("30", "slurm", 1800), ("30:15", "slurm", 1815), ("01:30:00", "slurm", 5400), ("1-12", "slurm", 129_600),
    ("1-12:30", "slurm", 131_400), ("2-00:00:01", "slurm", 172_801),
    ("90", "lsf", 5400), ("01:30", "lsf", 5400), ("00:30:00", "pbs", 1800), ("3600", "sge", 3600),
])  # fmt: skip
def test_a_walltime_means_what_the_queue_takes_it_for(text, queue, seconds):
    assert walltime_seconds(text, queue) == seconds


@pytest.mark.parametrize("text", ["soon", "1:2:3:4", "-1:00", "1h", "", "1-", "a-12"])
def test_what_is_no_walltime_is_refused(text, refuses):
    with refuses(repr(text), "slurm", "01:30:00"):
        walltime_seconds(text, "slurm")


@given(st.integers(2, 10**6), st.none() | st.floats(0.01, 0.99))
def test_workers_end_before_they_are_killed(walltime, share):
    life = worker_life(walltime, None if share is None else share * walltime)
    assert life is not None
    assert 0 < life[0] - life[1] < life[0] + life[1] < walltime


def test_without_a_walltime_there_is_no_hurry():
    assert worker_life(None, None) is None
    assert worker_life(None, 100) == (100, 10)


def test_a_lifetime_beyond_the_walltime_is_refused(refuses):
    with refuses("3600 s", "walltime 1800 s"):
        worker_life(1800, 3600)
