"""The bars of a job: the time left is right early, and stays right while workers come and go."""

import os
import pty
import subprocess
import sys

import pytest

from pairscape.pipeline.compute.progress import SPEED_SECONDS, Bars


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def bars():
    clock = Clock()
    made = Bars(clock)
    made.clock = clock
    return made


def test_the_time_left_follows_workers_that_come_and_go(bars):
    """One worker for an hour, then ten, then two: five minutes later the time left is right each time."""
    bars.start("counting", 100_000)
    done = 0
    for workers, seconds in ((1, 3600), (10, 2.5 * SPEED_SECONDS), (2, 2.5 * SPEED_SECONDS)):
        until = bars.clock.now + seconds
        while bars.clock.now < until:
            bars.clock.now += 10.0
            bars.advance(10 * workers)
            done += 10 * workers
        assert bars.seconds_left == pytest.approx((100_000 - done) / workers, rel=0.2)


def test_what_an_earlier_run_finished_says_nothing_of_the_speed(bars):
    bars.start("counting", 1000)
    bars.clock.now = 0.01
    bars.advance(450)
    bars.advance(450)
    assert bars.seconds_left is None
    for _ in range(3):
        bars.clock.now += 10.0
        bars.advance(10)
    assert bars.seconds_left == pytest.approx(70, rel=0.1)


def test_a_stage_that_is_over_has_no_time_left(bars):
    bars.start("counting", 20)
    bars.clock.now = 5.0
    bars.advance(20)
    assert bars.seconds_left == 0


@pytest.mark.parametrize("colours", [None, "1"])
def test_a_pipe_gets_names_of_stages_and_no_bars(colours):
    """A kernel of a notebook sets FORCE_COLOR for the commands that its cells start."""
    told = "from pairscape.pipeline.compute.progress import Bars\nwith Bars() as bars:\n    bars.start('counting', 9)\n"
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    env = kept if colours is None else kept | {"FORCE_COLOR": colours}
    ran = subprocess.run([sys.executable, "-c", told], env=env, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "counting\n")


def test_a_stage_whose_units_cannot_be_told_is_under_way_until_the_next(bars):
    bars.start("starting workers", 0)
    bars.clock.now = 5.0
    (task,) = bars._bars.tasks
    assert (task.total, task.finished, bars.seconds_left) == (None, False, None)
    bars.start("counting", 9)
    assert task.finished


READING = """
import time
from pairscape.pipeline.compute.session import all_loaded, first_word, here
first_word(False, "cells.h5ad")
time.sleep(0.4)
"""


@pytest.mark.parametrize(
    ("then", "shown"),
    [
        ("with here(False) as session: session.progress.start('counting', 9)", ["reading cells.h5ad", "counting"]),
        ("all_loaded()\nprint('refused')", ["reading cells.h5ad", "refused"]),
    ],
)
def test_a_bar_moves_in_a_terminal_until_a_session_opens_or_the_command_ends(then, shown):
    ours, theirs = pty.openpty()
    told = f"{READING}{then}\n"
    with subprocess.Popen([sys.executable, "-c", told], stdin=theirs, stdout=theirs, stderr=theirs) as ran:
        os.close(theirs)
        seen = b"".join(_read(ours)).decode()
    os.close(ours)
    assert ran.returncode == 0
    assert "\r\x1b[2K" in seen  # the bar is wiped
    assert seen.count("0:00:00") > 1  # and was drawn several times
    places = [seen.rindex(words) for words in shown]
    assert places == sorted(places)


def _read(terminal):
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # as Linux says that the other side is closed
            return
        if not part:
            return
        yield part
