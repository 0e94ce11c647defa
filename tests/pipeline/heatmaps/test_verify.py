"""Damage found in any file of a store, and made whole again to the byte; what cannot be is told with what to give."""

import errno
import json
import shutil

import numpy as np
import pytest

import pairscape
from conftest import simulated, small_shards, store_expression
from damages import DAMAGES
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.repair import repair_store
from pairscape.pipeline.heatmaps.shards import shard_file
from pairscape.pipeline.heatmaps.verify import verify_store
from pairscape.pipeline.options import Binning, Compute, PairSource
from pairscape.pipeline.storage import digests
from pairscape.pipeline.storage.digests import RECORD
from pairscape.pipeline.storage.lock import locked

HERE = Compute("synchronous")
STORES = ("i.zarr", "i.codes.zarr", "half.zarr", "half.codes.zarr")


@pytest.fixture(autouse=True)
def _shards_of_16(monkeypatch):
    small_shards(monkeypatch, 16)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A matrix, and image stores with their codes: of all cells, and of half of them under replicate labels."""
    folder = tmp_path_factory.mktemp("made")
    store_expression(folder / "e.zarr", simulated(80, 14))
    with pytest.MonkeyPatch.context() as patch:
        small_shards(patch, 16)
        for name, labels in (("i", "given"), ("half", "replicate")):
            pairs, where = PairSource(all_pairs=True, labels=labels), folder / f"{name}.zarr"
            pairscape.heatmaps(
                folder / "e.zarr", where, source=pairs, binning=Binning("rank", 8), compute=HERE, quiet=True
            )
    return shutil.copytree(folder, folder.with_name("kept")), folder


@pytest.fixture
def folder(made):
    """The same, sound, at the same place."""
    kept, folder = made
    shutil.rmtree(folder)
    return shutil.copytree(kept, folder)


def contents(store):
    return {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def look(store):
    return verify_store(store, Session()).lines()


def repair(store, codes=None, expression=None):
    return repair_store(store, codes, expression, Session())


def flip(path, at=0.5):
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 4
    path.write_bytes(content)


def test_sound_stores_are_sound_and_stay_as_they_are(folder):
    for name in STORES:
        before = contents(folder / name)
        assert look(folder / name) == []
        assert repair(folder / name).lines() == []
        assert contents(folder / name) == before
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "counts forged"])
def test_damaged_shards_are_computed_again(name, folder):
    store = folder / "i.zarr"
    before = contents(store)
    DAMAGES[name](open_images(store))
    found = repair(store)
    assert 1 in found.shards
    assert set(found.shards) <= {1, 2}
    assert contents(store) == before


@pytest.mark.parametrize("name", ["i.zarr", "i.codes.zarr"])
def test_every_file_counts(name, folder):
    """Bit flipped, emptied, or gone: damage to any file of a store is found, and some at once are restored."""
    store = folder / name
    before = contents(store)
    harms = [lambda path: flip(path, 0.01), lambda path: path.write_bytes(b""), lambda path: path.unlink()]
    for number, path in enumerate(sorted(before)):
        harms[number % 3](store / path)
        assert look(store) != [], path
        (store / path).write_bytes(before[path])
    for copies in (False, True):  # never a file and its copy at once
        for number, path in enumerate(path for path in sorted(before) if (path.suffix == ".copy") == copies):
            harms[number % 3](store / path)
        repair(store)
        assert contents(store) == before


def test_a_damaged_store_is_not_read(folder, refuses):
    """By whoever trains: labels and pairs would be fill values, without a word."""
    for name in ("label", "gene_a", "edges"):
        flip(next(path for path in sorted((folder / "half.zarr" / name / "c").rglob("*")) if path.is_file()))
        with refuses("half.zarr is damaged", name, "pairscape verify", "--repair", kind=JobError):
            open_images(folder / "half.zarr")
        repair(folder / "half.zarr")
    shutil.rmtree(folder / "half.zarr" / "label" / "c")
    pytest.importorskip("torch")
    with refuses("label", "is missing", kind=JobError):
        pairscape.train(folder / "half.zarr", folder / "run", quiet=True)


def test_damaged_images_are_no_picture(folder, refuses):
    images = open_images(folder / "i.zarr")
    flip(shard_file(images, "counts", 1), 0.3)
    with refuses("shard 1", "pairscape verify", kind=JobError):
        images.counts(slice(16, 32))


@pytest.mark.parametrize("name", ["i", "half"])
def test_codes_that_are_gone_are_made_again(name, folder):
    store = folder / f"{name}.zarr"
    before = {path: contents(path) for path in (store, folder / f"{name}.codes.zarr")}
    shutil.rmtree(folder / f"{name}.codes.zarr")
    shard_file(open_images(store), "counts", 2).unlink()
    assert list(repair(store).shards) == [2]
    assert {path: contents(path) for path in before} == before


def test_codes_that_moved_are_given(folder):
    store, before = folder / "i.zarr", contents(folder / "i.zarr")
    moved = shutil.move(folder / "i.codes.zarr", folder / "moved.zarr")
    shutil.move(folder / "e.zarr", folder / "elsewhere.zarr")
    shard_file(open_images(store), "counts", 2).unlink()
    repair(store, codes=folder / "moved.zarr")
    assert contents(store) == before
    assert open_codes(moved).content_hash == open_images(store).spec.codes_hash


def no_matrix(folder):
    shutil.rmtree(folder / "i.codes.zarr")
    shutil.rmtree(folder / "e.zarr")


def another_matrix(folder):
    shutil.rmtree(folder / "i.codes.zarr")
    store_expression(folder / "e.zarr", simulated(80, 14, seed=1))


def other_codes(folder):
    shutil.rmtree(folder / "i.codes.zarr")
    shutil.copytree(folder / "half.codes.zarr", folder / "i.codes.zarr")


def damaged_codes(folder):
    flip(folder / "i.codes.zarr" / "codes" / "c" / "0" / "0")


def both_copies(folder):
    flip(folder / "i.zarr" / "label" / "zarr.json")
    (folder / "i.zarr" / "spare" / "label.zarr.json.copy").unlink()


def both_records(folder):
    (folder / "i.zarr" / RECORD).unlink()
    (folder / "i.zarr" / "spare" / "receipts.layout.json.copy").write_text("{}")


@pytest.mark.parametrize(("harm", "kind", "words"), [
    (no_matrix, InputError, ["codes of", "are gone", "--codes", "--expression"]),
    (another_matrix, InputError, ["is not the matrix", "--expression", "--codes"]),
    (other_codes, InputError, ["i.codes.zarr holds other codes", "--codes PATH"]),
    (damaged_codes, JobError, ["the codes", "are damaged too", "i.codes.zarr --repair"]),
    (both_copies, JobError, ["label/zarr.json and its copy are damaged", "make it again"]),
    (both_records, JobError, ["layout.json", "make it again"]),
])  # fmt: skip
def test_what_cannot_be_repaired_is_told_with_what_to_give(harm, kind, words, folder, refuses):
    shard_file(open_images(folder / "i.zarr"), "counts", 2).unlink()
    harm(folder)
    before = contents(folder / "i.zarr")
    with refuses(*words, kind=kind):
        repair(folder / "i.zarr")
    assert (
        contents(folder / "i.zarr").items() >= {k: v for k, v in before.items() if "receipts/2" not in str(k)}.items()
    )


def test_a_disk_that_refuses_ends_a_repair_in_one_line(folder, refuses, monkeypatch):
    (folder / "i.zarr" / "label" / "zarr.json").unlink()

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(digests, "write_file", full)
        with refuses(
            "i.zarr cannot be finished", "No space left on device", "run the same command again", kind=JobError
        ):
            repair(folder / "i.zarr")
    repair(folder / "i.zarr")
    assert look(folder / "i.zarr") == []


@pytest.mark.parametrize("change", ["gone", "another"])
def test_codes_are_repaired_only_from_their_matrix(change, folder, refuses):
    flip(folder / "i.codes.zarr" / "codes" / "c" / "0" / "0")
    shutil.rmtree(folder / "e.zarr")
    if change == "another":
        store_expression(folder / "e.zarr", simulated(80, 14, seed=1))
    with refuses("matrix", "--expression PATH"):
        repair(folder / "i.codes.zarr")
    assert look(folder / "i.codes.zarr") != []


def test_a_store_of_an_earlier_version_is_checked_as_far_as_it_can_be(folder):
    """Without digests of small files, and codes without digests at all: checksums of chunks are left."""
    for name in ("i.zarr", "i.codes.zarr"):
        shutil.rmtree(folder / name / "spare")
        (folder / name / RECORD).unlink()
        found = verify_store(folder / name, Session())
        assert (found.lines(), found.covered) == ([], False)
    flip(folder / "i.codes.zarr" / "codes" / "c" / "0" / "0", 0.2)
    assert list(verify_store(folder / "i.codes.zarr", Session()).shards) == [0]
    open_images(folder / "i.zarr")


def test_a_store_at_work_is_not_repaired(folder, refuses):
    with locked(folder / "i.zarr"), refuses("is being written by", kind=JobError):
        repair(folder / "i.zarr")


def test_another_job_is_not_mistaken_for_a_damaged_one(folder, refuses):
    """A number changed in the metadata would make another plan of it."""
    root = folder / "i.zarr" / "zarr.json"
    metadata = json.loads(root.read_text())
    metadata["attributes"]["spec"]["n_cells"] = 81
    root.write_text(json.dumps(metadata, indent=2))
    pairs, binning = PairSource(all_pairs=True), Binning("rank", 8)
    with refuses("i.zarr is damaged: zarr.json", "--repair", kind=JobError):
        pairscape.heatmaps(
            folder / "e.zarr", folder / "i.zarr", source=pairs, binning=binning, compute=HERE, quiet=True
        )


def test_the_command_says_what_it_found_and_did(folder, capsys):
    flip(shard_file(open_images(folder / "i.zarr"), "counts", 3))
    (folder / "i.zarr" / "mean" / "c" / "0").unlink()
    with pytest.raises(JobError, match="1 of 6 shards, 1 other files; run `pairscape verify"):
        pairscape.verify(folder / "i.zarr")
    assert {"mean/c/0 is missing", "shard 3: counts is not the file the receipt describes"} <= set(
        capsys.readouterr().err.splitlines()
    )
    pairscape.verify(folder / "i.zarr", repair=True)
    assert "6 shards, 91 images, 2 repaired, all sound" in capsys.readouterr().out
    pairscape.verify(folder / "i.codes.zarr")
    assert "1 shards, codes of 14 genes in 80 cells, all sound" in capsys.readouterr().out


def test_workers_look_and_repair_too(folder):
    store = folder / "i.zarr"
    before = contents(store)
    for shard in (0, 4):
        flip(shard_file(open_images(store), "counts", shard))
    pairscape.verify(store, repair=True, compute=Compute("threads", workers=2), quiet=True)
    assert contents(store) == before
    assert np.array_equal(open_images(store).counts(slice(0, 16)).sum(axis=(1, 2)), np.full(16, 80))
