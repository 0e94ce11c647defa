"""Rows of a store are read as zarr reads them, whoever encoded it; a damaged or missing shard is told, not zeros."""

import shutil
from dataclasses import replace

import fsspec
import numpy as np
import pytest
import torch
import zarr

import pairscape
from model_fixtures import sharded_store, small_store
from pairscape.model.batches.stream import PairStream
from pairscape.model.options import Training
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps import read
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.read import read_images
from pairscape.pipeline.heatmaps.shards import shard_file
from pairscape.pipeline.storage.results import result_folder
from pairscape.pipeline.storage.workspace import sent_folder

ROWS = [[0], [4559], [0, 255, 256, 2047, 2048, 4095, 4096, 4559], list(range(2000, 4200, 7)), list(range(4560))]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def images(root):
    return sharded_store(root)


@pytest.fixture
def copy(images, tmp_path):
    """The same store, free to be changed; another hash, so that nothing read before is taken for it."""
    shutil.copytree(images.path, tmp_path / "copy.zarr")
    opened = open_images(tmp_path / "copy.zarr")
    return replace(opened, path=tmp_path / "copy.zarr")


def assert_as_zarr(found, images, rows, original):
    everything = slice(0, images.spec.n_pairs)
    np.testing.assert_array_equal(found[0], original.counts(everything)[rows])
    np.testing.assert_array_equal(found[1], original.both_zero(everything)[rows])


@pytest.mark.parametrize("rows", ROWS, ids=len)
def test_rows_are_those_that_zarr_reads(images, rows):
    assert_as_zarr(read_images(images, np.array(rows)), images, rows, images)


@pytest.mark.parametrize("rows", ROWS, ids=len)
def test_a_store_encoded_by_others_reads_the_same(images, copy, rows):
    for name, chunks, shards in (("counts", (128, 64, 64), None), ("both_zero", (2048,), None)):
        values = zarr.open_array(images.path, path=name, mode="r")[:]
        shutil.rmtree(copy.path / name)
        zarr.create_array(
            str(copy.path / name), data=values, chunks=chunks, shards=shards, dimension_names=None, compressors="auto"
        )
    assert not read._is_plain(str(copy.path), copy.spec.plan_hash)
    assert_as_zarr(read_images(copy, np.array(rows)), copy, rows, images)


def test_images_go_where_they_are_asked_to_go(images):
    out = np.full((3, 64, 64), -1, np.int16)
    counts, _ = read_images(images, np.array([5, 6, 4000]), out=out)
    assert counts is out
    np.testing.assert_array_equal(out[2], images.counts(slice(4000, 4001))[0])


def test_only_chunks_with_rows_are_decompressed(images, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        read.CODEC.__class__, "decode", lambda self, content, out: decoded.append(out.shape) or out.fill(1)
    )
    read_images(images, np.array([3, 7, 255, 2048 + 511]))
    assert decoded == [(256, 64 * 64), (2048,)] * 2


def damage_chunk(file):
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (damage_chunk, "checksum"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "index"),
        (lambda file: file.unlink(), "nothing where images should be"),
    ],
    ids=["flipped bit", "cut short", "gone"],
)
def test_a_damaged_shard_is_named(copy, damage, word, refuses):
    damage(shard_file(copy, "counts", 1))
    read_images(copy, np.arange(0, 2048))  # the others can be read
    with refuses("shard 1", word, "pairscape verify", "--repair", kind=JobError):
        read_images(copy, np.array([2048, 2049]))


# ---------------------------------------------------------------- object storage, as zarr and fsspec have it


@pytest.fixture
def bucket(images):
    """The same store behind a URL, and its files to be changed."""
    memory = fsspec.filesystem("memory")
    memory.put(str(images.path), "/bucket/images.zarr", recursive=True)
    yield memory
    memory.rm("/bucket", recursive=True)


URL = "memory://bucket/images.zarr"


def test_a_store_behind_a_url_reads_the_same(images, bucket):
    remote, rows = open_images(URL), [0, 300, 2047, 2048, 4559]
    assert (remote.spec, remote.provenance) == (images.spec, images.provenance)
    assert_as_zarr(read_images(remote, np.array(rows)), remote, rows, images)
    label = images.array("label")
    streams = [
        PairStream(each, np.arange(label.size), label, Training(ratio=2.0, batch_size=50), 0)
        for each in (images, remote)
    ]
    for here, there in zip(*streams, strict=True):
        assert torch.equal(here.counts, there.counts)
        assert torch.equal(here.row, there.row)


def test_a_network_learns_the_same_from_a_url(root, bucket, tmp_path):
    images, url = small_store(root).path, "memory://bucket/small.zarr"
    bucket.put(str(images), "/bucket/small.zarr", recursive=True)
    found = [
        pairscape.train(store, tmp_path / name, training=Training(epochs=1), quiet=True)
        for name, store in (("here", images), ("there", url))
    ]
    assert found[0]["test"] == found[1]["test"]
    assert found[1]["store"]["path"] == url


def test_a_run_is_sent_to_a_url_and_read_from_there(root, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    images, quick = small_store(root), Training(epochs=1)
    runs = (tmp_path / "run", "memory://bucket/run")
    found = [pairscape.train(images.path, run, training=quick, quiet=True) for run in runs]
    assert found[0]["test"] == found[1]["test"]
    names = {str(file.relative_to(runs[0])) for file in runs[0].rglob("*") if file.is_file()}
    assert {name.removeprefix("/bucket/run/") for name in bucket.find("/bucket/run")} == names
    assert bucket.cat_file("/bucket/run/model.safetensors") == (runs[0] / "model.safetensors").read_bytes()
    scored = [pairscape.evaluate(run, images.path, quiet=True) for run in runs]
    assert scored[0]["test"] == scored[1]["test"]
    assert bucket.exists("/bucket/run/on-images/metrics.json")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            lambda store: pairscape.train(store, "memory://bucket/images.zarr", quiet=True),
            ("is not empty", "did not make it"),
        ),
        (lambda store: pairscape.train(store, "nosuch://bucket/run", quiet=True), ("pairscape[s3]",)),
        (lambda store: pairscape.evaluate("memory://bucket/none", store, quiet=True), ("holds nothing",)),
        (lambda store: pairscape.report("memory://bucket/run"), ("is a URL", "give a path")),
        (lambda store: pairscape.tune(store, "memory://bucket/study", quiet=True), ("is a URL", "give a path")),
        (lambda store: pairscape.predict("memory://bucket/run", store, "o.parquet"), ("is a URL", "give a path")),
    ],
)
def test_what_cannot_be_done_with_a_run_behind_a_url_is_told(images, bucket, command, words, refuses):
    before = bucket.find("/bucket")
    with refuses(*words):
        command(images.path)
    assert bucket.find("/bucket") == before


def test_a_run_that_cannot_be_sent_is_kept(bucket, tmp_path, monkeypatch, refuses):
    def lost(*_, **__):
        raise OSError("the network is gone")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url = "memory://bucket/run"
    with refuses("the network is gone", "kept in", kind=JobError), sent_folder(url, "network") as folder:
        with result_folder(folder, "network"):
            (folder / "history.csv").write_text("epochs")
        monkeypatch.setattr(type(bucket), "pipe_file", lost)
    monkeypatch.undo()
    assert [file.read_text() for file in tmp_path.rglob("history.csv")] == ["epochs"]


@pytest.mark.parametrize(("lost", "shard"), [("receipts/1.json", 1), ("counts/c/2/0/0", 2)])
def test_what_is_missing_behind_a_url_is_told(bucket, lost, shard, refuses):
    bucket.rm(f"/bucket/images.zarr/{lost}")
    with refuses(URL, "1 of 3 shards", f"first: {shard}"):
        open_images(URL)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory://bucket/nothing.zarr", ("no such image store",)),
        ("nosuch://bucket/images.zarr", ("cannot be read here", "pairscape[s3]")),
    ],
)
def test_what_is_no_store_behind_a_url(bucket, url, words, refuses):
    with refuses(url, *words):
        open_images(url)


def test_a_file_url_is_a_path(images):
    assert open_images(f"file://{images.path}").path == images.path
