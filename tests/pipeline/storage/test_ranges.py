"""Ranges of arrays as ingest writes them are zarr's own, and every other layout is left to zarr."""

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, GzipCodec

from pairscape.pipeline.matrix.store import CODEC
from pairscape.pipeline.storage.chunks import _shard_length, read_range


def sharded(path, values, shard=24, chunk=8, compressors=None):
    compressors = [BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")] if compressors is None else compressors
    array = zarr.create_array(
        str(path), shape=values.shape, dtype=values.dtype, chunks=(chunk,), shards=(shard,), compressors=compressors
    )
    array[:] = values
    return zarr.open_array(str(path), mode="r")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Numbered values over three shards, the last one short, with a chunk and a shard of zeros."""
    values = np.arange(1, 91, dtype=np.float32)
    values[8:16], values[48:72] = 0, 0
    return sharded(tmp_path_factory.mktemp("ranges") / "a", values), values


@given(st.tuples(st.integers(0, 90), st.integers(0, 90)))
def test_any_range(stored, ends):
    array, values = stored
    low, high = sorted(ends)
    found = read_range(array, low, high)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values[low:high])


def test_ours_is_read_without_zarr(tmp_path, monkeypatch):
    values = np.arange(1, 70, dtype=np.int32)
    array = sharded(tmp_path / "a", values)
    monkeypatch.setattr(zarr.Array, "__getitem__", None)  # would fail if it were called
    np.testing.assert_array_equal(read_range(array, 3, 66), values[3:66])


def test_so_are_shards_with_checksums(tmp_path, monkeypatch):
    values = np.arange(1, 70, dtype=np.int32)
    array = sharded(tmp_path / "a", values, compressors=CODEC.compressors())
    monkeypatch.setattr(zarr.Array, "__getitem__", None)
    np.testing.assert_array_equal(read_range(array, 3, 66), values[3:66])
    file = tmp_path / "a" / "c" / "1"
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        read_range(array, 3, 66)


def test_other_layouts_are_zarrs(tmp_path):
    values = np.arange(1, 70, dtype=np.int64)
    with h5py.File(tmp_path / "f", "w") as file:
        assert read_range(file.create_dataset("x", data=values), 3, 9).tolist() == values[3:9].tolist()
    plain = zarr.create_array(str(tmp_path / "p"), data=values, chunks=(8,))
    old = zarr.create_array(str(tmp_path / "o"), data=values, chunks=(8,), zarr_format=2)
    others = [
        plain,
        old,
        sharded(tmp_path / "g", values, compressors=[GzipCodec()]),
        sharded(tmp_path / "n", values, compressors=[]),
    ]
    for array in others:
        assert _shard_length(array) is None
        np.testing.assert_array_equal(read_range(array, 3, 66), values[3:66])


@pytest.mark.parametrize("place", ["index", "chunk"])
def test_damage_is_told(place, tmp_path):
    array = sharded(tmp_path / "a", np.arange(1, 25, dtype=np.float32))
    file = tmp_path / "a" / "c" / "0"
    content = bytearray(file.read_bytes())
    content[-8 if place == "index" else 0] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises((ValueError, RuntimeError)):
        read_range(array, 0, 24)
