"""The log of events, and the pace of a stage."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscape.pipeline.compute.events import Events
from pairscape.pipeline.compute.progress import MEMORY_SECONDS, Pace


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_happens_is_a_line_each(tmp_path):
    for _ in range(2):  # a resumed job goes on below
        with Events(tmp_path / "log") as log:
            log.write("start", shards=3)
            assert lines(tmp_path / "log")[-1]["shards"] == 3  # at once, not at the end
            log.write("end", ok=True)
    found = lines(tmp_path / "log")
    assert [line["event"] for line in found] == ["start", "end"] * 2
    assert all({"time", "seconds"} <= set(line) for line in found)


def test_a_failure_is_the_end(tmp_path):
    with pytest.raises(ValueError, match="no"), Events(tmp_path / "log") as log:
        raise ValueError("no\nmore")
    assert {key: lines(tmp_path / "log")[-1][key] for key in ("event", "ok", "why")} == {
        "event": "end", "ok": False, "why": "no more",
    }  # fmt: skip
    log.write("late")
    assert len(lines(tmp_path / "log")) == 1


def test_a_log_that_cannot_be_written_is_refused(tmp_path, refuses):
    with refuses("--events", "no", "folder"):
        Events(tmp_path / "no" / "log")


def test_without_a_file_nothing_is_noted():
    Events().write("start")


@given(rate=st.floats(0.1, 1e6), seconds=st.floats(10, 3000))
def test_a_steady_pace_is_found(rate, seconds):
    pace, steps = Pace(10**12, 0.0), 200
    for step in range(1, steps + 1):
        pace.advance(rate * seconds / steps, step * seconds / steps)
    assert pace.rate(seconds) == pytest.approx(rate, rel=0.2)


def test_the_pace_follows_workers_that_come_and_go():
    """One worker for an hour, then ten, then two: five minutes later the time left is right each time."""
    pace, now = Pace(100_000, 0.0), 0.0
    for workers, seconds in ((1, 3600), (10, 2.5 * MEMORY_SECONDS), (2, 2.5 * MEMORY_SECONDS)):
        until = now + seconds
        while now < until:
            now += 10.0
            pace.advance(10 * workers, now)
        assert pace.rate(now) == pytest.approx(workers, rel=0.4)
    assert pace.seconds_left(now) == pytest.approx((100_000 - pace.done) / 2, rel=0.4)


def test_what_an_earlier_run_finished_is_no_pace():
    pace = Pace(1000, 0.0)
    assert pace.seconds_left(1.0) is None
    pace.advance(900, 0.01)
    assert (pace.rate(5.0), pace.seconds_left(5.0)) == (0.0, None)
    pace.advance(10, 10.0)
    assert pace.seconds_left(10.0) == pytest.approx(90, rel=0.1)
    pace.advance(90, 20.0)
    assert pace.seconds_left(20.0) == 0.0
