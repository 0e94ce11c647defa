"""The heatmap job: exact against `np.histogram2d`, and the same bytes wherever it runs and however often it dies."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from conftest import simulated, small_shards, store_expression
from heatmap_jobs import ALL, FINE, contents, run, store_hash
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.compute.clusters import open_client
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.genes.pairs import Pairs, all_pairs
from pairscape.pipeline.heatmaps import count, gene_reader, tiles
from pairscape.pipeline.heatmaps import job as counting
from pairscape.pipeline.heatmaps import job as heatmaps
from pairscape.pipeline.heatmaps.count import Spent, count_tile
from pairscape.pipeline.heatmaps.gene_reader import GeneReader
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.job import make_heatmaps, resolve_request
from pairscape.pipeline.heatmaps.kernel import GeneBlock
from pairscape.pipeline.heatmaps.memory import Portion
from pairscape.pipeline.heatmaps.shards import damage, receipt_file, shard_file
from pairscape.pipeline.heatmaps.tiles import storage_order, tiles_of
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, Compute, PairSource
from reference import joint_counts

ROOT = Path(__file__).parents[3]
RULES = ("max", "range", "quantile", "rank")


def double_zeros(dense, pairs):
    return ((dense[:, pairs.gene_a] == 0) & (dense[:, pairs.gene_b] == 0)).sum(axis=0)


def assert_exact(target, dense):
    """The images of a finished store are numpy's, for these cells, and its double zeros are counted right."""
    images = open_images(target)
    pairs, edges = images.pairs(), images.array("edges")
    counts = images.counts(slice(0, len(pairs)))
    np.testing.assert_array_equal(counts, joint_counts(dense, edges, pairs.gene_a, pairs.gene_b))
    np.testing.assert_array_equal(images.array("both_zero"), double_zeros(dense, pairs))
    assert (counts.sum(axis=(1, 2)) == dense.shape[0]).all()


@pytest.fixture
def shards_of_48(monkeypatch):
    """In this process only: 22 shards for all 1,035 pairs of the 46 genes."""
    small_shards(monkeypatch, 48)


# ── exact ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scale", RULES)
@pytest.mark.parametrize("bins", [2, 32])
def test_images_are_those_of_numpy(scale, bins, dense, expression_path, shards_of_48, stages, tmp_path):
    done = run(expression_path, tmp_path / "i.zarr", binning=Binning(scale, bins), session=Session(progress=stages))
    assert_exact(tmp_path / "i.zarr", dense)
    assert (done.computed, done.kept) == (22, 0)  # 1,035 pairs, 48 a shard
    assert stages.seen["heatmaps"] == [1035, 1035]
    shards = [p for name in ("counts", "both_zero") for p in (tmp_path / "i.zarr" / name / "c").rglob("*")]
    assert done.spent.bytes_written == sum(p.stat().st_size for p in shards if p.is_file())


def test_range_is_histogram2d_literally(shards_of_48, tmp_path):
    """As CNNC makes its pictures, without a word of edges; also for constant genes and genes expressed nowhere."""
    dense = simulated(60, 12)
    dense[1:, 3] = 0
    dense[:, 7] = 1.5
    expression = open_expression(store_expression(tmp_path / "e.zarr", dense))
    request = replace(resolve_request(expression, ALL, 0), cells=np.arange(1, 60))
    make_heatmaps(expression, tmp_path / "i.zarr", None, request, Binning("range"), Session())
    images, counted = open_images(tmp_path / "i.zarr"), dense[1:]
    pairs, counts = images.pairs(), images.counts(slice(0, 66))
    for row, (a, b) in enumerate(zip(pairs.gene_a, pairs.gene_b, strict=True)):
        np.testing.assert_array_equal(counts[row], np.histogram2d(counted[:, a], counted[:, b], bins=32)[0].T)


def test_rank_keeps_the_unexpressed_cells_apart(dense, expression_path, shards_of_48, tmp_path):
    run(expression_path, tmp_path / "i.zarr", binning=Binning("rank", 16))
    images = open_images(tmp_path / "i.zarr")
    pairs, counts = images.pairs(), images.counts(slice(0, 1035))
    np.testing.assert_array_equal(counts[:, 0, 0], images.array("both_zero"))
    np.testing.assert_array_equal(counts[:, :, 0].sum(axis=1), (dense == 0).sum(axis=0)[pairs.gene_a])
    np.testing.assert_array_equal(counts[:, 0, :].sum(axis=1), (dense == 0).sum(axis=0)[pairs.gene_b])


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, expression_path):
    """Codes under every rule with few, usual and the most bins: (scale, bins) → code store."""
    folder, expression = tmp_path_factory.mktemp("encoded"), open_expression(expression_path)
    made = {}
    for scale, bins in ((scale, bins) for scale in RULES for bins in (2, 32, 255)):
        path = folder / f"{scale}-{bins}.zarr"
        made[scale, bins] = encode_matrix(expression, path, Binning(scale, bins), np.arange(150), Session())
    return made


pair_lists = st.lists(st.tuples(st.integers(0, 45), st.integers(0, 45)), min_size=1, max_size=80)


@given(listed=pair_lists, cells=st.sampled_from([17, 64, 150]), genes=st.sampled_from([2, 7, 256]), data=st.data())
def test_any_tiling_of_any_pairs_gives_the_images_of_numpy(listed, cells, genes, data, dense, encoded):
    """Slabs of so many cells, blocks of so many genes, shards of any size; repeated, mirrored and self pairs."""
    codes = encoded[data.draw(st.sampled_from(sorted(encoded)))]
    gene_a, gene_b = np.array(listed, np.int32).T
    pairs = storage_order(Pairs(gene_a, gene_b, np.zeros(gene_a.size, np.int8)))
    bins = codes.binning.bins
    counts, both_zero = np.full((len(pairs), bins, bins), 9, np.uint32), np.zeros(len(pairs), np.uint32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "BLOCK_GENES", genes)
        patch.setattr(gene_reader, "READ_CELLS", data.draw(st.sampled_from([13, 2**20])))
        patch.setattr(count, "GENES_AT_ONCE", data.draw(st.sampled_from([1, 3, 64])))
        reader = GeneReader(codes, Portion(cells, 1, data.draw(st.sampled_from([0, 300, 10**6])), 0))
        for tile in (tile for shard in tiles_of(pairs.gene_b, data.draw(st.integers(1, 90))) for tile in shard):
            rows = slice(tile.start, tile.stop)
            part = reader, tile.genes_b, (pairs.gene_a[rows], pairs.gene_b[rows]), counts[None, rows]
            (both_zero[rows],) = count_tile(*part, Spent())
    np.testing.assert_array_equal(counts, joint_counts(dense, codes.array("edges"), pairs.gene_a, pairs.gene_b))
    np.testing.assert_array_equal(both_zero, double_zeros(dense, pairs))


@pytest.fixture
def short_of_memory(monkeypatch):
    """Every job in slabs of 64 cells, with so many shards that share them."""

    def portions(shards):
        monkeypatch.setattr(heatmaps, "portion", lambda *_, **__: Portion(64, shards, 0, 0))

    return portions


@pytest.mark.parametrize("together", [1, 4])
def test_memory_changes_no_byte(together, small_truth, expression_path, shards_of_48, short_of_memory, tmp_path):
    """Three slabs of cells; shards one by one, or four at a time that share the reading."""
    short_of_memory(together)
    done = run(expression_path, tmp_path / "i.zarr")
    assert store_hash(tmp_path / "i.zarr") == store_hash(small_truth / "i.zarr")
    assert done.spent.chunks_read > 0


def test_shards_that_are_counted_together_share_the_reading(
    expression_path, shards_of_48, short_of_memory, tmp_path, monkeypatch
):
    monkeypatch.setattr(tiles, "SHARES_PER_WORKER", 0.5)
    read = []
    for together in (1, 22):
        short_of_memory(together)
        read.append(run(expression_path, tmp_path / f"{together}.zarr").spent.chunks_read)
    assert read[1] < read[0] / 3


@pytest.mark.parametrize(("kept", "chunks"), [(10**6, 2), (30_000, 3)])
def test_a_gene_is_read_once_a_worker(kept, chunks, expression_path, shards_of_48, tmp_path, monkeypatch):
    """All pairs of 46 genes in two chunks, whatever the number of tiles; a chunk is unpacked again for its other genes
    where not all of them can be kept."""
    monkeypatch.setattr(heatmaps, "portion", lambda *_, **__: Portion(150, 1, kept, 0))
    monkeypatch.setattr("pairscape.pipeline.heatmaps.memory.KEPT_ENTRY_BYTES", 50 if kept == 30_000 else 5)
    assert run(expression_path, tmp_path / "i.zarr").spent.chunks_read == chunks


def test_codes_that_are_lost_are_not_counted_as_zeros(small_truth, expression_path, shards_of_48, tmp_path):
    shutil.copytree(small_truth / "i.codes.zarr", tmp_path / "c.zarr")
    (tmp_path / "c.zarr" / "codes" / "c" / "0" / "0").unlink()
    run(expression_path, tmp_path / "i.zarr", codes=tmp_path / "c.zarr")
    assert store_hash(tmp_path / "i.zarr") == store_hash(small_truth / "i.zarr")


def test_labels_and_images_come_from_different_cells(dense, expression_path, shards_of_48, tmp_path):
    source = PairSource(all_pairs=True, labels="replicate", threshold=0.25)
    request = resolve_request(open_expression(expression_path), source, 0)
    run(expression_path, tmp_path / "i.zarr", source=source)
    assert_exact(tmp_path / "i.zarr", dense[request.cells])
    label_half = np.setdiff1d(np.arange(150), request.cells)
    assert (request.cells.size, label_half.size) == (75, 75)
    images = open_images(tmp_path / "i.zarr")
    pairs = images.pairs()
    varied = np.flatnonzero(np.ptp(dense[label_half], axis=0) > 0)
    rho = np.zeros((46, 46))  # a gene that is constant in the label half is correlated with nothing
    rho[np.ix_(varied, varied)] = spearmanr(dense[label_half][:, varied]).statistic
    np.testing.assert_array_equal(pairs.label, np.abs(rho[pairs.gene_a, pairs.gene_b]) >= 0.25)
    assert 0 < pairs.label.sum() < len(pairs)
    assert "seed 0" in images.provenance["cells"]


def test_replicate_labels_need_cells(tmp_path, refuses):
    expression = open_expression(store_expression(tmp_path / "e.zarr", np.ones((3, 4), np.float32)))
    with refuses("there are 3", "4 or more"):
        resolve_request(expression, PairSource(all_pairs=True, labels="replicate"), 0)


def test_listed_pairs_keep_their_labels_through_the_order_of_the_store(expression_path, shards_of_48, tmp_path):
    rng = np.random.default_rng(0)
    listed = {(int(a), int(b)): int(label) for a, b, label in rng.integers([0, 0, -1], [46, 46, 3], (200, 3)) if a != b}
    lines = [f"G{a},G{b},{label}" for (a, b), label in listed.items()]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    run(expression_path, tmp_path / "i.zarr", source=PairSource(pairs=tmp_path / "pairs.csv"))
    pairs = open_images(tmp_path / "i.zarr").pairs()
    found = list(zip(pairs.gene_a.tolist(), pairs.gene_b.tolist(), pairs.label.tolist(), strict=True))
    assert {(a, b): label for a, b, label in found} == listed
    assert [lines[row] for row in open_images(tmp_path / "i.zarr").list_row()] == [
        f"G{a},G{b},{c}" for a, b, c in found
    ]


def test_pairs_of_no_list_have_no_rows_of_one(expression_path, shards_of_48, tmp_path):
    assert run(expression_path, tmp_path / "i.zarr", source=ALL).images.list_row() is None


def test_cells_of_the_image_half_and_matched_negatives_are_said(expression_path):
    source = PairSource(all_pairs=True, labels="replicate", threshold=0.2, image_cells=30, negatives="matched")
    request = resolve_request(open_expression(expression_path), source, 0)
    labels = request.chosen.pairs.label
    assert request.cells.size == 30
    assert request.provenance["cells"].startswith("30 of the image half of a random split, seed 0; labels |Spearman|")
    assert request.provenance["pairs"]["negatives"] == "matched"
    assert 0.9 * (labels == 1).sum() < (labels == 0).sum() <= (labels == 1).sum() < (labels == -1).sum()
    assert "matched to" in request.chosen.notes[-1]


# ── the same bytes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def truth(tmp_path_factory, expression_path):
    """Hash of the store that a synchronous run makes."""
    target = tmp_path_factory.mktemp("truth") / "i.zarr"
    assert run(expression_path, target, binning=FINE).computed == 5
    return store_hash(target)


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("scheduler", "workers"), [("threads", 1), ("threads", 2), ("local", 1), ("local", 2), ("local", 4)]
)
def test_every_scheduler_writes_the_same_bytes(scheduler, workers, truth, expression_path, tmp_path, monkeypatch):
    """Also where the workers' folder is not the user's: paths are relative here, and the workers started elsewhere."""
    compute = Compute(scheduler, workers=workers)
    with open_client(compute) as client:
        monkeypatch.chdir(tmp_path)
        paths = expression_path, Path("i.zarr")
        done = run(*paths, binning=FINE, codes=Path("c.zarr"), session=Session(client))
    assert (done.computed, done.kept) == (5, 0)
    assert store_hash(tmp_path / "i.zarr") == truth


@pytest.fixture(scope="module")
def small_truth(tmp_path_factory, expression_path):
    """Folder with a finished store of 22 shards."""
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        small_shards(patch, 48)
        run(expression_path, folder / "i.zarr")
    return folder


def harm(images, rng):
    """Delete or truncate files of a random part of the shards; returns how many are harmed."""
    shards = rng.choice(images.spec.n_shards, rng.integers(1, images.spec.n_shards), replace=False)
    for shard in shards:
        files = receipt_file(images, shard), shard_file(images, "counts", shard), shard_file(images, "both_zero", shard)
        for file in (file for file in rng.permuted(files)[: rng.integers(1, 4)] if file.exists()):
            if rng.random() < 0.5:
                file.unlink()
            else:
                file.write_bytes(file.read_bytes()[: rng.integers(0, file.stat().st_size)])
    return sum(damage(images, shard) is not None for shard in range(images.spec.n_shards))


@pytest.mark.parametrize("seed", range(8))
def test_a_resumed_run_computes_what_is_missing_and_nothing_else(
    seed, small_truth, expression_path, shards_of_48, tmp_path
):
    shutil.copytree(small_truth, tmp_path, dirs_exist_ok=True)
    harmed = harm(open_images(tmp_path / "i.zarr"), np.random.default_rng(seed))
    assert store_hash(tmp_path / "i.zarr") != store_hash(small_truth / "i.zarr")
    done = run(expression_path, tmp_path / "i.zarr")
    assert (done.computed, done.kept) == (harmed, 22 - harmed)
    assert store_hash(tmp_path / "i.zarr") == store_hash(small_truth / "i.zarr")


def test_a_finished_job_is_not_done_again(small_truth, expression_path, shards_of_48, stages, tmp_path, monkeypatch):
    shutil.copytree(small_truth, tmp_path, dirs_exist_ok=True)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    monkeypatch.setattr(counting, "count_task", None)  # would fail if it were called
    done = run(expression_path, tmp_path / "i.zarr", session=Session(progress=stages))
    assert (done.computed, done.kept, done.spent) == (0, 22, Spent())
    assert stages.seen == {"checking codes": [1, 1], "laying out images": [0, 0], "heatmaps": [0, 0]}
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("other", ["pairs", "labels", "bins", "scale", "cells", "matrix"])
def test_another_job_on_the_same_path_is_refused(
    other, small_truth, dense, expression_path, shards_of_48, tmp_path, refuses
):
    shutil.copytree(small_truth, tmp_path, dirs_exist_ok=True)
    before, source, binning = contents(tmp_path), ALL, Binning("max", 16)
    if other in ("pairs", "labels"):
        pairs = all_pairs(46)
        last = 1034 if other == "pairs" else 1035
        lines = [f"G{a},G{b},0" for a, b in zip(pairs.gene_a[:last], pairs.gene_b[:last], strict=True)]
        (tmp_path / "pairs.csv").write_text("\n".join(lines))
        source = PairSource(pairs=tmp_path / "pairs.csv")
    elif other == "bins":
        binning = Binning("max", 17)
    elif other == "scale":
        binning = Binning("rank", 16)
    elif other == "cells":
        source = PairSource(all_pairs=True, labels="replicate")
    else:
        changed = dense.copy()
        changed[3, 7] += 0.25
        expression_path = store_expression(tmp_path / "e.zarr", changed)
    with refuses("i.zarr holds another job (1,035 pairs, 150 cells, scale max, 16 bins)", "another path"):
        run(expression_path, tmp_path / "i.zarr", source=source, binning=binning)
    assert before.items() <= contents(tmp_path).items()  # its codes, too, are what they were


def test_a_new_job_in_the_same_process_counts_anew(dense, tmp_path, monkeypatch):
    """Same paths, other binning, other cells, other values: no array of the first job may be left in a cache."""
    small_shards(monkeypatch, 512)
    changed = simulated(140, 46, seed=1)
    jobs = [(dense, "max"), (dense, "rank"), (changed, "rank"), (changed[:, :20], "max")]
    for number, (values, scale) in enumerate(jobs):
        source, codes = store_expression(tmp_path / "e.zarr", np.ascontiguousarray(values)), tmp_path / "c.zarr"
        run(source, tmp_path / f"i{number}.zarr", binning=Binning(scale, 16), codes=codes)
        assert_exact(tmp_path / f"i{number}.zarr", values)
        shutil.rmtree(tmp_path / "i.zarr", ignore_errors=True)
        run(source, tmp_path / "i.zarr", binning=Binning(scale, 16), codes=codes)
        assert_exact(tmp_path / "i.zarr", values)


def test_codes_are_shared_between_stores(small_truth, expression_path, shards_of_48, stages, tmp_path):
    codes = shutil.copytree(small_truth / "i.codes.zarr", tmp_path / "c.zarr")
    (tmp_path / "tf.txt").write_text("G3\nG40\n")
    source = PairSource(regulators=tmp_path / "tf.txt")
    run(expression_path, tmp_path / "j.zarr", source=source, codes=codes, session=Session(progress=stages))
    assert set(stages.seen) == {"checking codes", "laying out images", "heatmaps"}
    assert {p.name for p in tmp_path.iterdir()} == {"c.zarr", "tf.txt", "j.zarr"}


def test_lost_shards_are_told_at_the_end(expression_path, shards_of_48, tmp_path, monkeypatch, refuses):
    monkeypatch.setattr(counting, "count_task", lambda target, codes, share, task: Spent())
    with refuses("22 of 22 shards are missing", "first: 0", "run the same again", kind=JobError):
        run(expression_path, tmp_path / "i.zarr")
    with refuses("half-written"):
        open_images(tmp_path / "i.zarr")


def test_images_that_would_not_sum_to_the_cells_are_never_written(expression_path, shards_of_48, tmp_path, monkeypatch):
    """A kernel, or a machine, that counts one cell too many in every image; the narrow kernel: test_groups."""

    def one_too_many(self, genes_a, first, member, images, *, add):
        images[:] = 0
        images[:, 0, 0] = self.genes.n_cells + 1

    monkeypatch.setattr(GeneReader, "is_narrow", lambda *_: False)
    monkeypatch.setattr(GeneBlock, "count", one_too_many)
    with pytest.raises(JobError, match="report it"):
        run(expression_path, tmp_path / "i.zarr")
    assert len(open_images(tmp_path / "i.zarr", complete=False).missing_shards()) == 22
    assert not any(path.is_file() for path in (tmp_path / "i.zarr" / "counts" / "c").rglob("*"))


def test_a_worker_without_the_memory_is_refused(expression_path, tmp_path, refuses):
    """Before anything is spent: not even the codes are made."""
    with refuses("a task needs", "--memory-limit"):
        run(expression_path, tmp_path / "i.zarr", session=Session(memory=100_000_000))
    assert list(tmp_path.iterdir()) == []


# ── killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────


KILLS = 10


@pytest.fixture
def command():
    """Starts `pairscape heatmaps` in a process group of its own, as a user does; none outlives the test."""
    started = []
    yield lambda folder: started.append(start(folder)) or started[-1]
    for job in started:
        kill_group(job)


def start(folder):
    where = ["--scheduler", "local", "--workers", "1", "--memory-limit", "2GB"]
    arguments = ["e.zarr", "i.zarr", "--all-pairs", "--bins", "130", *where, "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_TEMPORARY_DIRECTORY": str(folder / "dask")}
    with (folder / "errors").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "pairscape", "heatmaps", *arguments],
            cwd=folder, env=environment, stderr=errors, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def receipts(folder):
    return len(list((folder / "i.zarr" / "receipts").glob("[0-9]*.json")))


def kill_group(job):
    """SIGKILL to the driver and all its workers; returns when none is left."""
    if job.poll() is None:  # not collected yet, so that the number is still its own
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    deadline = time.monotonic() + 10
    while alive(job.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(job.pid)


def alive(group):
    """Whether a process of the group still runs; the killed ones may wait for init to collect them."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except (OSError, IndexError):  # it ended meanwhile
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


@pytest.mark.cluster
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds left-over processes in /proc")
def test_a_job_killed_ten_times_ends_with_the_same_bytes(command, tmp_path):
    """Killed while it starts, while it encodes, in the middle of shards and between them; 5,995 pairs in 24 shards."""
    store_expression(tmp_path / "e.zarr", simulated(300, 110))
    run(tmp_path / "e.zarr", tmp_path / "undisturbed.zarr", binning=Binning("max", 130))
    rng, killed = np.random.default_rng(0), 0
    for early in rng.permutation([True, False] * (KILLS // 2)):
        done, job = receipts(tmp_path), command(tmp_path)
        if early:
            time.sleep(rng.uniform(0, 1.5))
        else:  # after one or two shards, so that some are left for the last run
            wanted = done + rng.integers(1, 3)
            while job.poll() is None and receipts(tmp_path) < wanted:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1))
        killed += job.poll() is None
        kill_group(job)
    assert killed >= KILLS - 2
    assert 0 < receipts(tmp_path) < 24
    assert command(tmp_path).wait() == 0, (tmp_path / "errors").read_text()
    assert store_hash(tmp_path / "i.zarr") == store_hash(tmp_path / "undisturbed.zarr")
    images = open_images(tmp_path / "i.zarr")
    assert [damage(images, shard) for shard in range(24)] == [None] * 24
    assert not zarr.open_group(str(tmp_path / "i.zarr"), mode="r")["counts"][5995:].any()
    assert {p.name for p in tmp_path.glob("*.wip")} | {p.name for p in tmp_path.glob(".*.wip")} == set()
