"""The image store: its contract, its receipts, and every kind of damage found."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import xarray
import zarr

from conftest import small_shards
from damages import DAMAGES, content, write_shard
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps.images import find_pair, open_images
from pairscape.pipeline.heatmaps.job import make_heatmaps, resolve_request
from pairscape.pipeline.heatmaps.shards import clear_shards, damage, has_receipt, receipt_file, shard_file
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, PairSource
from pairscape.pipeline.storage import receipts
from pairscape.pipeline.storage.chunks import ChunkCodec
from pairscape.pipeline.storage.write import write_file

BINS, N_CELLS, N_PAIRS = 8, 150, 52
REGULATORS = ["G40", "G1", "G44"]
TARGETS = [f"G{gene}" for gene in (*range(16), 44, 45)]  # 3 × 18 pairs, less G1 and G44 with themselves


@pytest.fixture(autouse=True)
def _shards_of_16(monkeypatch):
    """52 pairs: three whole shards and a fourth with 12 rows of padding."""
    small_shards(monkeypatch, 16)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, expression_path):
    """Folder with a finished store; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    files = {"regulators": REGULATORS, "targets": TARGETS, "network": ["Gene1,Gene2", "G40,G0", "G1,G44"]}
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("\n".join(lines))
    source = PairSource(**{name: folder / f"{name}.txt" for name in files})
    expression = open_expression(expression_path)
    with pytest.MonkeyPatch.context() as patch:
        small_shards(patch, 16)
        request = resolve_request(expression, source, 0)
        make_heatmaps(expression, folder / "i.zarr", None, request, Binning("max", BINS), Session())
    return folder


@pytest.fixture
def images(finished, tmp_path):
    """A fresh copy of the finished store, open."""
    return open_images(shutil.copytree(finished / "i.zarr", tmp_path / "i.zarr"))


def test_attributes(images):
    attrs = zarr.open_group(str(images.path), mode="r").attrs
    assert (attrs["format"], attrs["format_version"]) == ("pairscape-images", 1)
    assert (attrs["bins"], attrs["n_cells"], attrs["scale"], attrs["n_pairs"]) == (BINS, N_CELLS, "max", N_PAIRS)
    assert attrs["plan_hash"] == images.spec.plan_hash
    assert images.provenance["pairs"]["network"].endswith("network.txt")
    assert open_codes(type(images.path)(images.spec.codes)).content_hash == images.spec.codes_hash


CONTRACT = {  # name → dims, dtype, chunks, shards
    "counts": (("pair", "bin_b", "bin_a"), "uint32", (8, BINS, BINS), (16, BINS, BINS)),
    "both_zero": (("pair",), "uint32", (16,), None),
    "gene_a": (("pair",), "int32", (64,), None),
    "gene_b": (("pair",), "int32", (64,), None),
    "label": (("pair",), "int8", (64,), None),
    "edges": (("gene", "edge"), "float32", (46, BINS + 1), None),
    "mean": (("gene",), "float32", (46,), None),
    "variance": (("gene",), "float32", (46,), None),
    "dropout": (("gene",), "float32", (46,), None),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_arrays(images, name):
    array = zarr.open_group(str(images.path), mode="r")[name]
    dims, dtype, chunks, shards = CONTRACT[name]
    assert (array.metadata.dimension_names, array.dtype, array.chunks, array.shards) == (dims, dtype, chunks, shards)
    assert array.shape[0] == (64 if dims[0] == "pair" else 46)  # pairs padded to whole shards


def test_counts_are_compressed_and_checked(images):
    metadata = json.loads((images.path / "counts" / "zarr.json").read_text())
    inner = metadata["codecs"][0]["configuration"]["codecs"]
    assert [codec["name"] for codec in inner] == ["bytes", "blosc", "crc32c"]
    blosc = inner[1]["configuration"]
    assert (blosc["cname"], blosc["shuffle"]) == ("zstd", "shuffle")


def test_anyone_opens_it_with_xarray(images, dense):
    with xarray.open_zarr(images.path, chunks=None) as store:
        assert store["counts"].dims == ("pair", "bin_b", "bin_a")
        assert {name: store[name].dims for name in CONTRACT} == {name: row[0] for name, row in CONTRACT.items()}
        names, edges = store["gene"].values, store["edges"].values
        pairs = store.isel(pair=slice(store.attrs["n_pairs"]))
        np.testing.assert_array_equal(pairs["counts"].values, images.counts(slice(0, N_PAIRS)))
        a, b = pairs["gene_a"].values, pairs["gene_b"].values
        for row in range(N_PAIRS):
            joint = np.histogram2d(dense[:, a[row]], dense[:, b[row]], bins=(edges[a[row]], edges[b[row]]))
            np.testing.assert_array_equal(pairs["counts"].values[row], joint[0].T)
        np.testing.assert_array_equal(pairs["both_zero"], ((dense[:, a] == 0) & (dense[:, b] == 0)).sum(axis=0))
        labelled = {(names[i], names[j]): c for i, j, c in zip(a, b, pairs["label"].values, strict=True)}
        assert {pair for pair, label in labelled.items() if label == 1} == {("G40", "G0"), ("G1", "G44")}
        assert set(labelled) == {(r, t) for r in REGULATORS for t in TARGETS if r != t}


def test_padding_is_never_given_out(images):
    store = zarr.open_group(str(images.path), mode="r")
    assert (store["label"][N_PAIRS:] == -1).all()
    assert (store["gene_a"][N_PAIRS:] == -1).all()
    assert (store["counts"][N_PAIRS:] == 0).all()
    for name in ("gene_a", "gene_b", "label", "both_zero"):
        assert images.array(name).shape == (N_PAIRS,)
    assert len(images.pairs()) == N_PAIRS
    assert images.spec.shard_rows(3) == range(48, N_PAIRS)


def test_every_shard_has_a_receipt(images):
    for shard in range(4):
        receipt = json.loads(receipt_file(images, shard).read_text())
        rows = images.spec.shard_rows(shard)
        assert receipt["plan_hash"] == images.spec.plan_hash
        assert (receipt["shard"], receipt["rows"], receipt["total"]) == (
            shard, [rows.start, rows.stop], len(rows) * N_CELLS,
        )  # fmt: skip
        for name in ("counts", "both_zero"):
            stored = content(shard_file(images, name, shard))
            sha256 = hashlib.sha256(stored).hexdigest() if stored else None
            assert receipt[name] == {"bytes": len(stored), "sha256": sha256}
    assert images.missing_shards() == []
    assert [damage(images, shard) for shard in range(4)] == [None] * 4


@pytest.mark.parametrize("harm", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_found(harm, images):
    harm(images)
    fresh = open_images(images.path, complete=False)
    assert damage(fresh, 1) is not None
    assert (damage(fresh, 0), damage(fresh, 3)) == (None, None)


QUICKLY_SEEN = [name for name in DAMAGES if not {"flipped", "swapped", "forged"} & set(name.split())]


@pytest.mark.parametrize("name", [*QUICKLY_SEEN, "receipts swapped", "files and receipts swapped"])
def test_a_shard_that_would_be_read_as_zeros_is_missing(name, images, refuses):
    """Without reading the shard: opening a store of a terabyte must not cost a pass over it."""
    DAMAGES[name](images)
    fresh = open_images(images.path, complete=False)
    assert 1 in fresh.missing_shards()
    with refuses("half-written", "of 4 shards", "first: 1", "pairscape heatmaps"):
        open_images(images.path)


def test_a_receipt_that_is_no_object_counts_as_none(images):
    for text in ("null", "[1, 2]", "3", '"text"'):
        receipt_file(images, 2).write_text(text)
        assert not has_receipt(images, 2)
        assert damage(images, 2) == "no valid receipt"


def test_clearing_a_shard_removes_what_killed_writers_left(images):
    counts, both_zero = (shard_file(images, name, 1) for name in ("counts", "both_zero"))
    left = [
        counts.with_name("0.1f2e.partial"),
        both_zero.with_name("1.1f2e.partial"),
        receipt_file(images, 1).with_name(".1.json.4711"),
    ]
    for path in left:
        path.write_bytes(b"half")
    kept = [both_zero.with_name("11"), receipt_file(images, 2), receipt_file(images, 1).with_name(".11.json.4711")]
    for path in (kept[0], kept[2]):
        path.write_bytes(b"of another shard")
    clear_shards(images, [1])
    assert [path for path in (*left, counts, both_zero, receipt_file(images, 1)) if path.exists()] == []
    assert all(path.exists() for path in kept)
    assert images.missing_shards() == [1]


def test_a_shard_is_written_again_over_anything(images, finished):
    counts, both_zero = images.counts(slice(48, 52)), images.both_zero(slice(48, 52))
    truth = open_images(finished / "i.zarr")
    shard_file(images, "counts", 3).write_bytes(b"rubbish")
    clear_shards(images, [3])
    n_bytes = write_shard(images, 3, counts, both_zero)
    for name in ("counts", "both_zero"):
        assert content(shard_file(images, name, 3)) == content(shard_file(truth, name, 3))
    assert receipt_file(images, 3).read_text() == receipt_file(truth, 3).read_text()
    assert n_bytes == sum(len(content(shard_file(images, name, 3))) for name in ("counts", "both_zero"))
    assert damage(images, 3) is None


@pytest.mark.parametrize("name", ["counts", "both_zero"])
def test_a_disk_that_lies_leaves_no_receipt(name, images, monkeypatch):
    counts, both_zero = images.counts(slice(0, 16)), images.both_zero(slice(0, 16))
    clear_shards(images, [0])

    def lying(path, content):
        write_file(path, content[:-1] if name in path.parts else content)

    monkeypatch.setattr(receipts, "write_file", lying)
    with pytest.raises(JobError, match=rf"{name}.* read back it differs"):
        write_shard(images, 0, counts, both_zero)
    assert not receipt_file(images, 0).exists()


def test_a_compressor_that_lies_leaves_no_receipt(images, monkeypatch):
    counts, both_zero = images.counts(slice(0, 16)), images.both_zero(slice(0, 16))
    clear_shards(images, [0])
    encode = ChunkCodec.encode
    monkeypatch.setattr(ChunkCodec, "encode", lambda self, chunk: encode(self, np.roll(chunk, 1, axis=0)))
    with pytest.raises(JobError, match="chunk 0 is another one after compression"):
        write_shard(images, 0, counts, both_zero)
    assert images.missing_shards() == [0]


def test_zarr_reads_what_was_written_and_would_write_the_same(images, tmp_path):
    """The last shard, whose padding fills no chunk of its own, included."""
    for shard in range(4):
        rows = slice(16 * shard, 16 * (shard + 1))
        for name in ("counts", "both_zero"):
            array = zarr.open_array(str(images.path), path=name, mode="r+")
            file, ours = shard_file(images, name, shard), content(shard_file(images, name, shard))
            values = array[rows]
            file.unlink(missing_ok=True)
            array[rows] = values
            assert content(file) == ours


def test_double_zeros_that_are_all_zero_are_sound_without_a_file(images):
    """Zarr stores no chunk that holds nothing but its fill value."""
    counts = images.counts(slice(0, 16))
    clear_shards(images, [0])
    write_shard(images, 0, counts, np.zeros(16, np.uint32))
    assert not shard_file(images, "both_zero", 0).exists()
    assert images.missing_shards() == []
    assert damage(images, 0) is None
    shard_file(images, "both_zero", 0).write_bytes(b"")
    assert damage(images, 0) is not None


@pytest.mark.parametrize(("field", "value"), [("format_version", 2), ("format", "other-images")])
def test_another_format_is_refused(field, value, images, refuses):
    metadata = json.loads((images.path / "zarr.json").read_text())
    metadata["attributes"][field] = value
    (images.path / "zarr.json").write_text(json.dumps(metadata))
    with refuses("i.zarr", str(value), "pairscape-images version 1", "make the store again"):
        open_images(images.path)


def test_what_is_no_image_store_is_refused(expression_path, tmp_path, refuses):
    with refuses("absent.zarr", "no such image store"):
        open_images(tmp_path / "absent.zarr")
    with refuses("expression.zarr", "not a Pairscape image store"):
        open_images(expression_path)
    with refuses(str(tmp_path), "not a Pairscape image store"):
        open_images(str(tmp_path))


def test_a_pair_is_found_in_either_order(images):
    row, turned = find_pair(images, "G40", "G3")
    names, pairs = images.array("gene"), images.pairs()
    assert (names[pairs.gene_a[row]], names[pairs.gene_b[row]], turned) == ("G40", "G3", False)
    assert find_pair(images, "G3", "G40") == (row, True)
    both = find_pair(images, "G1", "G44"), find_pair(images, "G44", "G1")
    assert both[0] != both[1]
    assert not both[0][1]
    assert not both[1][1]


@pytest.mark.parametrize(("a", "b", "words"), [
    ("G40", "NOPE", ["NOPE"]),
    ("G20", "G21", ["no image of G20 and G21", "no candidate pair"]),
    ("G3", "G3", ["no image of G3 and G3"]),
])  # fmt: skip
def test_a_pair_that_is_not_there_is_refused(a, b, words, images, refuses):
    with refuses(*words):
        find_pair(images, a, b)
