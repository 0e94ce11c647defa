"""Codes that were exchanged, lost or edited since they were made: never counted, and images of such are told.

The other matrix has the same shape, names and values of every gene, dealt to other cells: only the pictures differ.
"""

import json
import shutil

import numpy as np
import pytest

import pairscape
from conftest import counted, store_expression
from heatmap_jobs import run
from made_runs import make_run
from model_fixtures import run_command
from pairscape.pipeline.codes.store import block_file, open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.shards import encode_shard, publish_shard
from pairscape.pipeline.heatmaps.verify import verify_store
from pairscape.pipeline.options import Compute, PairSource

BLOCK = block_file(0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """a and its other, b: matrices, codes and images of 150 cells and 20 genes."""
    folder, values = tmp_path_factory.mktemp("exchanged"), np.log1p(counted(150, 20))
    rng = np.random.default_rng(5)
    dealt = np.stack([column[rng.permutation(150)] for column in values.T], axis=1)
    for name, matrix in (("a", values), ("b", dealt)):
        store_expression(folder / f"{name}.zarr", matrix)
        run(folder / f"{name}.zarr", folder / f"{name}.i.zarr", codes=folder / f"{name}.c.zarr")
    return folder


@pytest.fixture
def place(base, tmp_path):
    for name in ("a.zarr", "a.c.zarr", "b.c.zarr"):
        shutil.copytree(base / name, tmp_path / name, copy_function=shutil.copy2)
    run(tmp_path / "a.zarr", tmp_path / "a.i.zarr", codes=tmp_path / "a.c.zarr")  # by its name here
    return tmp_path


def exchange(*names):
    def change(place):
        for name in names:
            shutil.copyfile(place / "b.c.zarr" / name, place / "a.c.zarr" / name)

    return change


def truncate(place):
    file = place / "a.c.zarr" / BLOCK
    file.write_bytes(file.read_bytes()[:-100])


def flip(name):
    def change(place):
        file = place / "a.c.zarr" / name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    return change


def remove(name):
    return lambda place: (place / "a.c.zarr" / name).unlink()


def no_record(place):
    """As an earlier version made them; then nobody can tell that they were exchanged."""
    exchange(BLOCK)(place)
    shutil.rmtree(place / "a.c.zarr" / "spare")
    shutil.rmtree(place / "a.c.zarr" / "receipts")


def claimed(place):
    """The whole store of b, which says that it was made from a."""
    said = json.loads((place / "a.c.zarr" / "zarr.json").read_text())["attributes"]["provenance"]
    shutil.rmtree(place / "a.c.zarr")
    shutil.copytree(place / "b.c.zarr", place / "a.c.zarr")
    root = json.loads((place / "a.c.zarr" / "zarr.json").read_text())
    root["attributes"]["provenance"] = said
    (place / "a.c.zarr" / "zarr.json").write_text(json.dumps(root, indent=2))


HARM = {
    "a block": exchange(BLOCK),
    "a block and the record": exchange(BLOCK, "receipts/layout.json"),
    "edges": flip("edges/c/0/0"),
    "statistics": flip("dropout/c/0"),
    "a block cut off": truncate,
    "a bit": flip(BLOCK),
    "a block that is gone": remove(BLOCK),
    "cells that are gone": remove("cell/c/0"),
    "a block, without a record": no_record,
    "all, and said to be of a": claimed,
}


@pytest.mark.parametrize("case", HARM)
def test_codes_that_are_not_what_was_written_are_made_again(base, place, case):
    HARM[case](place)
    run(place / "a.zarr", place / "w.i.zarr", codes=place / "a.c.zarr")
    want, found = (open_images(path).counts(slice(None)) for path in (base / "a.i.zarr", place / "w.i.zarr"))
    np.testing.assert_array_equal(found, want)
    assert (place / "a.c.zarr" / BLOCK).read_bytes() == (base / "a.c.zarr" / BLOCK).read_bytes()


def test_sound_codes_are_not_made_again(place):
    before = (place / "a.c.zarr" / BLOCK).stat()
    run(place / "a.zarr", place / "w.i.zarr", codes=place / "a.c.zarr")
    assert (place / "a.c.zarr" / BLOCK).stat() == before


@pytest.mark.parametrize("case", ["a block", "a block cut off", "a bit", "a block that is gone"])
def test_no_reader_takes_them(place, case):
    codes = open_codes(place / "a.c.zarr")
    before = codes.read(np.arange(20), slice(0, 150))
    HARM[case](place)
    with pytest.raises(JobError, match="damaged"):
        codes.read(np.arange(20), slice(0, 150))
    run(place / "a.zarr", place / "w.i.zarr", codes=place / "a.c.zarr")
    np.testing.assert_array_equal(open_codes(place / "a.c.zarr").read(np.arange(20), slice(0, 150)), before)


def test_verify_tells_images_that_were_counted_from_others(base, place, capfd):
    """As an earlier version counted them, with receipts that fit."""
    wrong, right = place / "w.i.zarr", open_images(base / "b.i.zarr")
    exchanged = open_images(place / "a.i.zarr")
    _count_from(right, exchanged, wrong)
    assert run_command("verify", wrong, "--quiet") == 1
    assert "shard 0: its images are not those of its codes" in capfd.readouterr().err
    assert run_command("verify", wrong, "--repair", "--quiet") == 0
    assert (open_images(wrong).counts(slice(None)) == exchanged.counts(slice(None))).all()


def _count_from(source, claimed, target):
    """The images of one store, receipted as those of another."""
    shutil.copytree(claimed.path, target)
    images = open_images(target)
    for shard in range(images.spec.n_shards):
        rows = slice(images.spec.shard_rows(shard).start, images.spec.shard_rows(shard).stop)
        content = encode_shard(images, shard, np.ascontiguousarray(source.counts(rows)), source.both_zero(rows))
        publish_shard(images, shard, content)


@pytest.mark.parametrize("case", ["a block", "edges", "a bit", "a block that is gone"])
def test_verify_of_images_looks_at_their_codes(place, capfd, case):
    HARM[case](place)
    assert run_command("verify", place / "a.i.zarr", "--quiet") == 1
    assert "a.c.zarr --repair" in capfd.readouterr().err
    assert run_command("verify", place / "a.c.zarr", "--repair", "--quiet") == 0
    assert run_command("verify", place / "a.i.zarr", "--quiet") == 0


def test_without_their_codes_images_are_verified_by_themselves(place):
    shutil.rmtree(place / "a.c.zarr")
    assert verify_store(place / "a.i.zarr", Session()).lines() == []


def test_a_prediction_does_not_score_them_either(place, base):
    """The same rule in another job: the codes that it finds are compared too."""
    make_run(place / "run", place / "a.i.zarr")
    options = {"source": PairSource(all_pairs=True), "compute": Compute("synchronous"), "quiet": True}
    options |= {"codes": place / "p.zarr", "overwrite": True}
    found = []
    for _ in range(2):
        pairscape.predict(place / "run", place / "a.zarr", place / "s.parquet", **options)
        found.append((place / "s.parquet").read_bytes())
        shutil.copyfile(place / "b.c.zarr" / BLOCK, place / "p.zarr" / BLOCK)
    assert found[0] == found[1]
