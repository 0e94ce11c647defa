"""`benchmarks.peers`: what stands in its tables was done, stopped or said; and `benchmarks.watched`, which stops it."""

import json
import os
import sys
import time
from math import inf

import numpy as np
import psutil
import pytest
from scipy import sparse

from benchmarks import peer_recipes, peers, watched

# ── what runs ────────────────────────────────────────────────────────────────────────────────────────────────────────


HOLDS = """
import time, pathlib
held = b'x' * 200_000_000
while not pathlib.Path("seen").exists():
    time.sleep(0.05)
print('one'); print('two')
"""


def run_python(tmp_path, code, **limits):
    return watched.run([sys.executable, "-c", code], tmp_path, tmp_path / "log.txt", os.environ, every=0.05, **limits)


def test_what_a_command_takes(tmp_path, monkeypatch):
    look = watched._memory

    def tell_when_seen(process):
        held = look(process)
        if held[0] > 200_000_000:
            (tmp_path / "seen").touch()
        return held

    monkeypatch.setattr(watched, "_memory", tell_when_seen)
    taken = run_python(tmp_path, HOLDS, seconds=60)
    assert (taken.status, taken.stopped, (tmp_path / "log.txt").read_text()) == (0, "", "one\ntwo\n")
    assert 0 < taken.cpu_seconds < 60 > taken.seconds > 0
    assert 190_000_000 < taken.most_bytes_together <= taken.most_bytes_of_a_process < 400_000_000
    assert run_python(tmp_path, "raise SystemExit(3)").status == 3


CHILD = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {!r}], **{}).pid, flush=True); {}"


@pytest.mark.parametrize("apart", [{}, {"start_new_session": True}])
@pytest.mark.parametrize(
    ("code", "limits", "why"),
    [
        ("import time; time.sleep(60)", {"seconds": 1.5}, "time"),
        ("held = b'x' * 300_000_000; import time; time.sleep(60)", {"most_bytes": 250e6}, "memory"),
    ],
)
def test_a_command_is_stopped_with_what_it_started(tmp_path, code, limits, why, apart):
    started = time.monotonic()
    taken = run_python(tmp_path, CHILD.format(code, apart, "import time; time.sleep(60)"), **limits)
    assert (taken.stopped, taken.status) == (why, -9)
    assert time.monotonic() - started < 30
    (child,) = (int(word) for word in (tmp_path / "log.txt").read_text().split())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def cells():
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(0.7, (150, 12)).astype(np.float32))
    return peer_recipes.Cells(counts, np.array([0, 5]), threads=2, seconds=inf)


@pytest.mark.parametrize("name", ["cnnc", "cscore", "grnboost2_core"])
def test_recipes_that_need_no_package(cells, name):
    assert peer_recipes.RECIPES[name]()(cells) == (2 * 11, 1.0)


def test_a_sample_ends_in_time_and_tells_its_share(cells):
    object.__setattr__(cells, "seconds", 0.3)
    assert 2 / 500 <= peer_recipes.in_turns(lambda item: time.sleep(0.1), 500, cells) < 50 / 500


def test_what_fails_in_a_sample_is_told(cells):
    with pytest.raises(SystemExit, match="failed"):
        peer_recipes.in_turns(lambda item: sys.exit(1), 4, cells)


SMALL = ["--genes", "40", "--cells", "200", "--density", "0.4", "--sample", "0.2"]


def test_the_command(tmp_path, capsys):
    """Ours, a recipe, and a package that cannot be installed, as a file lies in its place."""
    (tmp_path / "hotspot").touch()
    kept, drawn = tmp_path / "found.json", tmp_path / "peers.png"
    given = [*SMALL, "--folder", str(tmp_path), "--json", str(kept), "--plot", str(drawn)]
    peers.main([*given, "--only", "heatmaps,cnnc,hotspot"])
    printed = capsys.readouterr().out
    found = json.loads(kept.read_text())["peers"]
    assert 500 < found["heatmaps"]["cases"][0]["pairs"] <= 20 * 39 == found["cnnc"]["cases"][0]["pairs"]
    assert "| 40 × 200 |" in printed
    assert "cannot be installed: " in printed
    assert drawn.stat().st_size > 10_000
    assert not list(tmp_path.glob("tmp*"))


def test_what_is_there_is_not_done_again_and_what_was_stopped_is_with_more_time(tmp_path):
    kept = tmp_path / "found.json"
    given = [*SMALL, "--folder", str(tmp_path), "--json", str(kept)]
    peers.main([*given, "--only", "cnnc,cscore"])
    before = json.loads(kept.read_text())
    before["peers"]["cnnc"]["cases"][0] |= {"state": "time", "limit": 1}
    kept.write_text(json.dumps(before))
    peers.main([*given, "--only", "cnnc,cscore"])
    after = json.loads(kept.read_text())["peers"]
    assert after["cscore"] == before["peers"]["cscore"]
    (again,) = after["cnnc"]["cases"]
    assert again["limit"] > 1
    assert again["state"] in peers.DONE  # on a slow machine a part of the pairs is timed


def test_a_peer_that_is_none_is_told(capsys):
    with pytest.raises(SystemExit):
        peers.main(["--only", "genie"])
    assert "there is no genie; there are heatmaps, predict" in capsys.readouterr().err


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────────


CPU = {"cpu_seconds": 1.5}


def case(genes, cells, seconds=1.0, state="ended", **more):
    return {"genes": genes, "cells": cells, "limit": 60, "state": state, "seconds": seconds, "bytes": 2e9} | CPU | more


@pytest.mark.parametrize(
    ("state", "genes", "cells", "is_beyond"),
    [
        ("time", 300, 1000, True),
        ("memory", 300, 1000, True),
        ("failed", 200, 500, True),
        ("time", 300, 2000, False),
        ("time", 400, 500, False),
        ("ended", 300, 1000, False),
        ("sampled", 300, 1000, False),
    ],
)
def test_larger_cases_of_what_did_not_end_are_not_tried(state, genes, cells, is_beyond):
    assert peers.beyond({"cases": [case(genes, cells, state=state)]}, 300, 1000) == is_beyond


def test_growth_is_found_again():
    sizes = [(300, 1000), (300, 10_000), (1000, 1000), (3000, 100_000)]
    cases = [case(g, c, 1e-6 * g**1.5 * c**0.5) for g, c in sizes]
    stopped = case(3000, 1000, 60.0, "time")
    fit = peers.growth([*cases, stopped], "seconds")
    assert fit[1:] == pytest.approx([1.5, 0.5])
    assert peers.foretold(fit, 20_000, 1000) == pytest.approx(1e-6 * 20_000**1.5 * 1000**0.5)
    assert peers.growth(cases[:2], "seconds") is None
    assert peers.growth([cases[0], cases[1], case(300, 50_000)], "seconds") is None  # of one number of genes


def test_a_sample_is_multiplied():
    said = {"share": 0.25, "work_seconds": 12.0, "pairs": 10}
    told = peers.whole({"seconds": 15.0, "cpu_seconds": 30.0}, said)
    assert (told["seconds"], told["cpu_seconds"], told["work_seconds"]) == (51.0, 102.0, 48.0)
    assert (told["state"], peers.whole(told, said | {"share": 1.0})["state"]) == ("sampled", "ended")


def test_tables_tell_every_state_and_where_ours_is_behind():
    ours = [case(300, 1000, 5.0, pairs=100), case(1000, 1000, 6.0, pairs=100), case(300, 9000, 7.0, pairs=100)]
    theirs = [
        case(300, 1000, 0.4, pairs=100, work_seconds=0.1),
        case(1000, 1000, 900.0, "sampled", pairs=100),
        case(300, 9000, 60.0, "time"),
        case(1000, 9000, 0.0, "not tried"),
    ]
    found = {
        "settings": {"memory": 14.0},
        "peers": {
            "predict": {"cases": ours, "growth": {"seconds": [0.0, 0.5, 0.25], "bytes": None}},
            "cscore": {"cases": theirs, "growth": {"seconds": [0.0, 1.0, 0.0], "bytes": None}},
            "arboreto": {"cases": [], "version": "arboreto 0.1.6", "reason": "does not run: TypeError: no"},
        },
    }
    printed = peers.tables(found)
    assert "| 300 × 1,000 | 5 | 0.4 |" in printed
    assert "| 1,000 × 1,000 | 6 | ≈ 900 |" in printed
    assert "| 300 × 9,000 | 7 | > 60 |" in printed
    assert "| 1,000 × 9,000 |  | not tried (fit: 1,000) |" in printed
    assert "does not run: TypeError: no" in printed
    assert "`predict` is slower than: CS-CORE's formulas at 300 × 1,000 (5 / 0.4)." in printed
    assert "`predict` is above the memory (GB) of: none." in printed
