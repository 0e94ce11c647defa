"""The log of events."""

import json

import pytest

from pairscape.pipeline.compute.session import Events


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
