"""The plan: what it counts is what the job does, what it measures is the job's own work, and nothing is left behind."""

import time
from dataclasses import replace

import numba
import numpy as np
import pytest

from conftest import simulated, small_shards, store_expression
from pairscape.pipeline.compute.opening import measuring, open_session
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.heatmaps import plan as planning
from pairscape.pipeline.heatmaps.job import make_heatmaps, plan_count, resolve_request
from pairscape.pipeline.heatmaps.memory import portion
from pairscape.pipeline.heatmaps.plan import plan_heatmaps, sampled_cells, timed_without_compiling
from pairscape.pipeline.heatmaps.tiles import plan_tasks, tiles_of
from pairscape.pipeline.matrix.expression import Expression, open_expression
from pairscape.pipeline.options import Binning, Compute, PairSource

ALL, BINNING = PairSource(all_pairs=True), Binning("max", 16)


def planned(path, codes=None, workers=1, source=ALL, session=None):
    expression = open_expression(path)
    request = resolve_request(expression, source, 0)
    return plan_heatmaps(expression, request, BINNING, codes, workers, session or Session())


def done(path, target, codes):
    expression = open_expression(path)
    request = resolve_request(expression, ALL, 0)
    return make_heatmaps(expression, target, codes, request, BINNING, Session())


@pytest.fixture
def large(tmp_path):
    """400 genes: 79,800 pairs, ten shards, of which the plan looks at a part."""
    return store_expression(tmp_path / "e.zarr", simulated(300, 400))


def test_what_is_planned_is_what_is_done(large, tmp_path, monkeypatch, stages):
    monkeypatch.setattr(planning, "SAMPLES", 8)
    cost = planned(large, session=Session(progress=stages))
    outcome = done(large, tmp_path / "i.zarr", tmp_path / "c.zarr")
    spec = outcome.images.spec
    assert (cost.pairs, cost.cells, cost.shards, cost.cells_at_once) == (spec.n_pairs, 300, spec.n_shards, 300)
    assert stages.seen == {"measuring": [16384, 16384]}  # twice 8 runs of 1,024 of the 79,800 pairs
    assert cost.store_bytes == pytest.approx(outcome.spent.bytes_written, rel=0.25)
    assert 0 < cost.seconds < 60
    assert cost.encode_seconds > 0


def test_genes_that_are_kept_are_read_once_a_worker(large):
    """Of 400 genes each worker unpacks 13 chunks; where none can be kept, those of genes b again for every task."""
    request = resolve_request(open_expression(large), ALL, 0)
    pairs, tiles = request.chosen.pairs, tiles_of(request.chosen.pairs.gene_b, BINNING.shard_pairs)
    tasks = plan_tasks(tiles, range(len(tiles)), np.ones(len(tiles)), 2)
    assert planning._chunk_reads(tasks, pairs, 2, True) == 2 * 13
    assert planning._chunk_reads(tasks, pairs, 2, False) > 3 * 13


def test_compiling_is_told_apart():
    """It is done once on a machine, so no job after the plan will wait for it."""

    def compiled():
        time.sleep(0.05)
        return numba.njit(lambda x: x + 1)(1)

    result, seconds, compiling = timed_without_compiling(compiled)
    assert result == 2
    assert compiling > 0
    assert seconds >= 0.05
    assert timed_without_compiling(time.sleep, 0.0)[2] == 0.0


def test_the_tasks_are_those_of_the_job(large, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(planning, "plan_count", lambda *given: seen.append(plan_count(*given)) or seen[-1])
    cost = planned(large, workers=3)
    assert cost.tasks == len(seen[-1][1])
    assert [shard for task in seen[-1][1] for shard in task.shards] == list(range(cost.shards))


def test_more_workers_take_less_time(large):
    one, many = planned(large, workers=1), planned(large, workers=1000)
    assert many.seconds < one.seconds / 2  # what every worker loads at first is not shared
    assert many.workers == 1000


def test_codes_that_are_there_are_used_and_no_cell_is_read(large, tmp_path, monkeypatch):
    done(large, tmp_path / "i.zarr", tmp_path / "c.zarr")

    def explode(*_):
        raise AssertionError("the matrix was read")

    expression = open_expression(large)
    request = resolve_request(expression, ALL, 0)
    monkeypatch.setattr(Expression, "rows", explode)
    cost = plan_heatmaps(expression, request, BINNING, tmp_path / "c.zarr", 1, Session())
    assert cost.encode_seconds == 0
    with pytest.raises(AssertionError, match="was read"):  # other bins are other codes
        plan_heatmaps(expression, request, Binning("max", 17), tmp_path / "c.zarr", 1, Session())


def test_a_sample_of_the_cells_stands_for_all(tmp_path, monkeypatch):
    """4,000 cells planned from 500 of them: the bytes that 4,000 cells take, and eight times the reading."""
    small_shards(monkeypatch, 256)
    path = store_expression(tmp_path / "e.zarr", simulated(4000, 60))
    monkeypatch.setattr(planning, "SAMPLE_CELLS", 500)
    cost = planned(path)
    outcome = done(path, tmp_path / "i.zarr", None)
    assert cost.cells == 4000
    assert cost.store_bytes == pytest.approx(outcome.spent.bytes_written, rel=0.3)


@pytest.mark.parametrize("scale", ["range", "quantile", "rank"])
def test_every_rule_can_be_planned(scale, expression_path):
    expression = open_expression(expression_path)
    request = resolve_request(expression, ALL, 0)
    assert plan_heatmaps(expression, request, Binning(scale, 8), None, 1, Session()).seconds > 0


def test_nothing_is_left_behind(expression_path, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = sorted(expression_path.parent.rglob("*"))
    planned(expression_path)
    assert list(tmp_path.iterdir()) == []
    assert sorted(expression_path.parent.rglob("*")) == before


def test_a_worker_without_the_memory_is_refused(expression_path, refuses):
    with refuses("a task needs", "--memory-limit"):
        planned(expression_path, session=Session(memory=100_000_000))


def test_the_largest_images_follow_from_the_limit(expression_path, refuses):
    small, large = (planned(expression_path, session=Session(memory=size)) for size in (700_000_000, 8_000_000_000))
    assert small.most_bins < large.most_bins == 255
    portion(Binning(bins=small.most_bins), 150, 1.0, 700_000_000)
    with refuses("a task needs"):
        portion(Binning(bins=small.most_bins + 1), 150, 1.0, 700_000_000)


def test_a_small_job_is_said_to_take_little_memory_whatever_the_limit(expression_path):
    """What a task takes follows from the job; the limit is what it may take at most."""
    small, large = (planned(expression_path, session=Session(memory=size)) for size in (2 * 10**9, 64 * 10**9))
    assert small.task_bytes == large.task_bytes < 100_000_000
    beside = replace(small, task_bytes=61_000_000)
    assert "at most 61 MB, beside 400 MB of an idle worker; a worker may take 2,000 MB" in str(beside)


@pytest.mark.cluster
def test_real_workers_measure(expression_path):
    compute = Compute("local", workers=2, memory_limit="2GB")
    with open_session(compute) as session:
        cost = planned(expression_path, workers=64, session=session)
    assert cost.worker_bytes == 2_000_000_000
    assert cost.task_bytes < 2_000_000_000
    assert cost.seconds > 0


def test_no_more_local_workers_are_started_than_there_are_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert measuring(Compute("local", workers=500)).workers == 2
    assert measuring(Compute("local", workers=1)).workers == 1
    for compute in (Compute("local"), Compute("tcp://10.0.0.1:8786", workers=500), Compute("synchronous", workers=9)):
        assert measuring(compute) == compute


def test_the_sample_is_spread_over_rare_and_frequent_genes(large, monkeypatch):
    taken = []
    keep = planning.pair_events
    monkeypatch.setattr(planning, "pair_events", lambda *given: taken.append(keep(*given)) or taken[-1])
    monkeypatch.setattr(planning, "SAMPLES", 16)
    planned(large)
    events = taken[0]
    rows = np.concatenate([np.r_[run] for run in planning.spread_runs(events, 16, 1024)])
    assert events[rows].mean() == pytest.approx(events.mean(), rel=0.1)


def test_scoring_is_foretold_of_what_is_counted(large, tmp_path, stages):
    """Half a second a pair and seven for the decoys, of one worker, beside the counting."""
    tried = []

    def scoring(codes, pairs, n_cells, folder, session):
        tried.append((codes.n_cells, len(pairs), n_cells, folder.parent.is_dir()))
        return planning.Tried("net", 0.5, 1.0, 7.0, 3.0)

    expression = open_expression(large)
    request = resolve_request(expression, ALL, 0)
    cost = plan_heatmaps(expression, request, BINNING, None, 2, Session(progress=stages), scoring)
    assert tried == [(300, 79_800, 300, True)]
    assert stages.seen["trying network"] == [1, 1]
    assert cost.score_seconds == pytest.approx(3 + (79_800 * 0.5 + 1) / 2, rel=0.01)
    assert cost.decoy_seconds == 3.5
    assert "with net" in next(line for line in cost.lines() if line.startswith("predict"))
    assert "predict" not in str(planned(large))


@pytest.mark.parametrize(("cells", "size"), [(1_000_000, 16_384), (20_000, 16_384), (700, 700), (5000, 1250), (3, 2)])
def test_sampled_cells_are_runs_from_one_end_of_the_matrix_to_the_other(cells, size):
    found = sampled_cells(cells, size)
    assert found.size == size
    assert (found[0], found[-1]) == (0, cells - 1)
    steps = np.diff(found)
    assert steps.min() >= 1
    assert (steps > 1).sum() < 64  # so many places are read at most
