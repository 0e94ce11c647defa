"""Stores in object storage, as fsspec's memory has it: the bytes of a local store, half of one never taken for one."""

import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from anndata import AnnData

import pairscape
from conftest import small_shards, store_expression
from pairscape.pipeline.codes import cache as nearby_module
from pairscape.pipeline.codes.cache import nearby
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.shards import clear_shards
from pairscape.pipeline.options import Binning, Compute, PairSource
from pairscape.pipeline.storage import write
from pairscape.pipeline.storage.paths import MARK, holds_store, located, put, put_new, writable
from pairscape.pipeline.storage.write import publish_store

URL, CODES = "memory://bucket/images.zarr", "memory://bucket/images.codes.zarr"
ALL, RANK = PairSource(all_pairs=True), Binning("rank")


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """Empty storage, and a host that has copied nothing yet."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(nearby_module, "_held", {})
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/other.txt", b"not ours")
    yield memory
    memory.rm("/bucket", recursive=True)


@pytest.fixture(autouse=True)
def shards(monkeypatch):
    small_shards(monkeypatch, 256)


@pytest.fixture(scope="module")
def local(expression_path, tmp_path_factory):
    """The same store on a disk: 1035 pairs in 5 shards."""
    with pytest.MonkeyPatch.context() as patch:
        small_shards(patch, 256)
        path = tmp_path_factory.mktemp("local") / "images.zarr"
        make(expression_path, path)
    return path


def make(expression, images, scheduler="synchronous", **options):
    compute = Compute(scheduler, 2 if scheduler == "threads" else None)
    options = {"source": ALL, "binning": RANK, "compute": compute, "quiet": True} | options
    pairscape.heatmaps(expression, images, **options)


def objects(memory, url=URL):
    """Contents by name within a store; of the images' root only that it is there, as it names where the codes lie."""
    folder = url.removeprefix("memory:/")
    found = {name.removeprefix(f"{folder}/"): memory.cat_file(name) for name in memory.find(folder)}
    return found | ({"zarr.json": b""} if "zarr.json" in found else {})


def files(path):
    found = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return found | {"zarr.json": b""}


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_every_object_is_the_file_of_a_local_store(expression_path, local, bucket, scheduler):
    make(expression_path, URL, scheduler)
    assert objects(bucket) == files(local)
    assert objects(bucket, CODES) == files(local.with_name("images.codes.zarr"))
    assert sorted(bucket.ls("/bucket", detail=False)) == [
        "/bucket/images.codes.zarr",
        "/bucket/images.zarr",
        "/bucket/other.txt",
    ]
    assert open_images(URL).provenance == open_images(local).provenance
    pairscape.verify(URL)


def test_the_matrix_may_lie_there_too(expression_path, local, bucket):
    for file in expression_path.rglob("*"):
        if file.is_file():
            bucket.pipe(f"/bucket/expression.zarr/{file.relative_to(expression_path)}", file.read_bytes())
    make("memory://bucket/expression.zarr", URL)
    made, wanted = objects(bucket), files(local)
    assert made.keys() == wanted.keys()
    named = ("zarr.json", "layout.json")  # the root says where the matrix lies, and the layout has the root's digest
    same = [name for name in wanted if not any(word in name for word in named)]
    assert {name: made[name] for name in same} == {name: wanted[name] for name in same}


def test_codes_may_lie_on_a_shared_disk(expression_path, local, bucket, tmp_path):
    make(expression_path, URL, codes=tmp_path / "codes.zarr")
    assert objects(bucket) == files(local)
    assert not bucket.exists(CODES)


def test_the_root_comes_last(expression_path, bucket, monkeypatch):
    order, whole = [], write.put_new
    monkeypatch.setattr(write, "put_new", lambda path, content: (order.extend(objects(bucket)), whole(path, content)))
    make(expression_path, URL, codes=None)
    assert "zarr.json" not in order
    assert {"counts/zarr.json", "gene/zarr.json", "gene_b/c/0", MARK} <= set(order)


def test_half_a_store_is_none_and_is_made_again(expression_path, local, bucket, monkeypatch):
    copy, calls = type(bucket).cp_file, []

    def dies(self, path1, path2, **kwargs):
        calls.extend([path2] if "/images.zarr/" in path2 else [])
        if len(calls) > 20:
            raise OSError("the machine is gone")
        copy(self, path1, path2, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "cp_file", dies)
        with pytest.raises(JobError, match=r"storage fails \(the machine is gone\)"):
            make(expression_path, URL)
    assert MARK in objects(bucket)
    assert "counts/zarr.json" in objects(bucket) or "edges/zarr.json" in objects(bucket)
    assert not holds_store(located(URL))
    bucket.pipe("/bucket/images.zarr/list_row/zarr.json", b"of another job that died there")
    make(expression_path, URL)
    assert objects(bucket) == files(local)


def flip(memory, name):
    content = bytearray(memory.cat_file(f"/bucket/images.zarr/{name}"))
    content[len(content) // 2] ^= 1
    memory.pipe(f"/bucket/images.zarr/{name}", bytes(content))


def test_what_is_missing_is_made_again_and_nothing_else(expression_path, local, bucket, capsys):
    make(expression_path, URL)
    bucket.rm("/bucket/images.zarr/receipts/1.json")
    bucket.rm("/bucket/images.zarr/counts/c/3/0/0")
    bucket.pipe("/bucket/images.zarr/receipts/4.json", b'{"half')
    make(expression_path, URL, quiet=False)
    assert "3 shards computed, 2 kept" in capsys.readouterr().out
    assert objects(bucket) == files(local)


@pytest.mark.parametrize("name", ["counts/c/2/0/0", "both_zero/c/2"])
def test_verify_names_a_damaged_object(expression_path, bucket, name, capsys, refuses):
    make(expression_path, URL)
    flip(bucket, name)
    with refuses("1 of 5 shards", kind=JobError):
        pairscape.verify(URL)
    assert "shard 2: " in capsys.readouterr().err


def test_what_is_read_back_must_be_what_was_written(expression_path, bucket, monkeypatch, refuses):
    whole = type(bucket).pipe_file

    def loses_a_byte(self, path, value, **kwargs):
        whole(self, path, value[:-1] if path.endswith("counts/c/3/0/0") else value, **kwargs)

    monkeypatch.setattr(type(bucket), "pipe_file", loses_a_byte)
    with refuses("counts/c/3/0/0", "differs", kind=JobError):
        make(expression_path, URL)
    assert open_images(URL, complete=False).missing_shards() == [3, 4]


def test_codes_are_encoded_once_for_several_jobs(expression_path, bucket, tmp_path):
    make(expression_path, URL)
    before = objects(bucket, CODES)
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("G1\tG2\nG3\tG4\n")
    bucket.pipe("/bucket/images.codes.zarr/here", b"not made again")
    make(expression_path, "memory://bucket/few.zarr", source=PairSource(pairs=pairs), codes=CODES)
    assert objects(bucket, CODES) == before | {"here": b"not made again"}


def test_codes_of_other_cells_take_the_place_of_those_there(expression_path, bucket, tmp_path, dense):
    make(expression_path, URL)
    other = store_expression(tmp_path / "other.zarr", dense[:100])
    make(other, "memory://bucket/second.zarr", codes=CODES)
    assert open_codes(located(CODES)).n_cells == 100
    assert not [name for name in objects(bucket, CODES) if name.startswith(".")]


# ---------------------------------------------------------------- the pieces


def test_only_one_job_puts_the_root(bucket):
    put_new(located(URL) / "zarr.json", b"first")
    with pytest.raises(FileExistsError):
        put_new(located(URL) / "zarr.json", b"second")
    assert bucket.cat_file("/bucket/images.zarr/zarr.json") == b"first"


def test_a_storage_without_conditions_is_asked_first(bucket, monkeypatch):
    whole = type(bucket).pipe_file

    def unconditional(self, path, value, mode="overwrite", **kwargs):
        if mode == "create":
            raise NotImplementedError
        whole(self, path, value, **kwargs)

    monkeypatch.setattr(type(bucket), "pipe_file", unconditional)
    put_new(located(URL) / "zarr.json", b"first")
    with pytest.raises(FileExistsError):
        put_new(located(URL) / "zarr.json", b"second")


def test_a_store_that_another_job_made_meanwhile_stays(bucket, refuses):
    target, aside = located(URL), located("memory://bucket/.images.zarr.wip")
    put(aside / "zarr.json", b"mine")
    put(target / "zarr.json", b"theirs")
    with refuses(URL, "another job", kind=JobError):
        publish_store(aside, target)
    assert bucket.cat_file("/bucket/images.zarr/zarr.json") == b"theirs"


@pytest.fixture
def codes(bucket):
    """Something like codes in the storage, by content hash."""

    def put_codes(content_hash, url=CODES):
        put(located(url) / "zarr.json", b'{"attributes": {"content_hash": "%s"}}' % content_hash.encode())
        put(located(url) / "codes" / "c" / "0" / "0", b"codes of " + content_hash.encode())
        return url

    return put_codes


def test_codes_are_fetched_once_a_host(codes, bucket):
    first = nearby(codes("aaa"), "aaa")
    bucket.rm("/bucket/images.codes.zarr", recursive=True)
    nearby_module._held.clear()  # as another process of the host
    assert nearby(CODES, "aaa") == first
    assert (first / "codes/c/0/0").read_bytes() == b"codes of aaa"


def test_copies_that_nobody_holds_go(codes):
    held, dropped = nearby(codes("aaa"), "aaa"), nearby(codes("bbb"), "bbb")
    import os

    os.close(nearby_module._held.pop("bbb")[1])  # as the kernel does when a process ends
    new = nearby(codes("ccc"), "ccc")
    assert [path.exists() for path in (held, dropped, new)] == [True, False, True]


def test_other_codes_than_those_of_the_job_are_refused(codes, tmp_path, refuses):
    with refuses(CODES, "other codes", kind=JobError):
        nearby(codes("aaa"), "bbb")
    assert not list(Path(tmp_path).rglob("codes"))


def test_no_room_for_codes_is_told(codes, tmp_path, refuses, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    url = codes("aaa")
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "get_file", full)
    with refuses(url, "No space left", "TMPDIR", kind=JobError):
        nearby(url, "aaa")
    assert not list(Path(tmp_path).rglob("*.zarr"))


def test_a_path_is_its_own_copy(tmp_path):
    assert nearby(str(tmp_path), "aaa") == tmp_path


# ---------------------------------------------------------------- what is refused


def anndata_in_memory(_):
    return AnnData(np.ones((3, 3), np.float32))


@pytest.mark.parametrize(
    ("expression", "images", "codes", "words"),
    [
        (None, "memory://bucket/taken.zarr", None, ("holds objects that are no store", "precious.txt")),
        (None, "nosuch://bucket/images.zarr", None, ("cannot be read here", "pairscape[s3]")),
        (None, "https://127.0.0.1:9/images.zarr", None, ("cannot be written",)),
        (None, URL, "memory://bucket/other.zarr", ("is not a Pairscape code store",)),
        (None, URL, "nosuch://bucket/codes.zarr", ("cannot be read here",)),
        (anndata_in_memory, URL, None, ("is a URL", "has to be ingested first")),
        (lambda _: "memory://bucket/nothing.zarr", URL, None, ("does not exist",)),
        (lambda _: "memory://bucket/matrix.csv", URL, None, ("does not exist",)),
        (lambda _: "memory://bucket/file.zarr", URL, None, ("not what its name says",)),
    ],
)
def test_what_cannot_be_used_is_told_and_nothing_is_written(
    expression_path, bucket, expression, images, codes, words, refuses
):
    bucket.pipe("/bucket/taken.zarr/precious.txt", b"of the user")
    bucket.pipe("/bucket/other.zarr/zarr.json", b'{"attributes": {"format": 1}}')
    bucket.pipe("/bucket/file.zarr", b"a file")
    before = bucket.find("/bucket")
    with refuses(*words):
        make(expression(None) if expression else expression_path, images, codes=codes)
    assert bucket.find("/bucket") == before


def test_another_job_on_the_same_url_is_refused(expression_path, bucket, refuses):
    make(expression_path, URL)
    before = objects(bucket)
    with refuses(URL, "another job"):
        make(expression_path, URL, binning=Binning("max"))
    assert objects(bucket) == before


def test_a_probe_leaves_nothing(bucket):
    before = bucket.find("/bucket")
    assert str(writable(URL)) == URL
    assert bucket.find("/bucket") == before


def test_a_local_path_is_written_as_ever(expression_path, local, tmp_path):
    make(expression_path, f"file://{tmp_path}/images.zarr")
    assert files(tmp_path / "images.zarr") == files(local)
    shutil.rmtree(tmp_path / "images.zarr")


DAMAGES = {
    "a flipped bit of a shard": ("images.zarr/counts/c/1/0/0", lambda content: content[:40] + b"\x80" + content[41:]),
    "half a shard": ("images.zarr/counts/c/0/0/0", lambda content: content[: len(content) // 2]),
    "a lost receipt": ("images.zarr/receipts/1.json", None),
    "other pairs": ("images.zarr/gene_b/c/0", lambda content: content[:-9] + bytes(9)),
    "a lost root": ("images.zarr/zarr.json", None),
    "a flipped bit of the codes": (
        "images.codes.zarr/codes/c/0/0",
        lambda content: content[:40] + b"\x80" + content[41:],
    ),
    "lost edges": ("images.codes.zarr/edges/c/0/0", None),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_repaired(expression_path, bucket, damage):
    make(expression_path, URL)
    before = {url: objects(bucket, url) for url in (URL, CODES)}
    name, change = DAMAGES[damage]
    place, store = f"/bucket/{name}", CODES if "codes" in name.partition("/")[0] else URL
    if change is None:
        bucket.rm(place)
    else:
        bucket.pipe(place, change(bucket.cat(place)))
    with pytest.raises(JobError, match="is damaged"):
        pairscape.verify(store)
    pairscape.verify(store, repair=True)
    pairscape.verify(store)
    assert {url: objects(bucket, url) for url in (URL, CODES)} == before


def test_clearing_takes_just_what_belongs_to_the_shards(expression_path, bucket):
    """With their receipts: what is put there later must not be taken for the old shard."""
    make(expression_path, URL)
    before = objects(bucket)
    clear_shards(open_images(URL), [1, 3])
    gone = {f"receipts/{shard}.json" for shard in (1, 3)} | {
        f"{name}/c/{shard}{'/0/0' if name == 'counts' else ''}" for name in ("counts", "both_zero") for shard in (1, 3)
    }
    assert before.keys() - objects(bucket).keys() == gone
    assert open_images(URL, complete=False).missing_shards() == [1, 3]
