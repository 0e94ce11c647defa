"""Shards of our own making are those of zarr-python, to the byte, and nothing damaged is read in silence."""

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from pairscape.pipeline.storage.chunks import ChunkCodec, join_chunks, read_chunks
from pairscape.pipeline.storage.write import write_file

CODECS = [
    ChunkCodec("zstd", 1, "bitshuffle", 262_144),
    ChunkCodec("zstd", 3, "bitshuffle"),
    ChunkCodec("lz4", 5, "noshuffle"),
]


def chunks_of(values, size):
    return [np.ascontiguousarray(values[i : i + size]) for i in range(0, len(values), size)]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec.cname}{codec.clevel}-{codec.blocksize}")
@pytest.mark.parametrize("dtype", ["uint32", "uint8"])
def test_the_bytes_are_zarrs(codec, dtype, tmp_path):
    """Also with a chunk of zeros in the middle, which neither stores."""
    values = np.random.default_rng(0).poisson(0.3, (40, 12, 12)).astype(dtype)
    values[8:16] = 0
    array = zarr.create_array(
        str(tmp_path / "a"), shape=values.shape, chunks=(8, 12, 12), shards=values.shape, dtype=dtype, fill_value=0,
        compressors=codec.compressors(),
    )  # fmt: skip
    array[:] = values
    theirs = (tmp_path / "a" / "c" / "0" / "0" / "0").read_bytes()
    ours = join_chunks(codec.encode(chunk) for chunk in chunks_of(values, 8))
    assert ours == theirs
    (tmp_path / "a" / "c" / "0" / "0" / "0").unlink()
    write_file(tmp_path / "a" / "c" / "0" / "0" / "0", ours)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a"), mode="r")[:], values)


@given(present=st.lists(st.booleans(), min_size=1, max_size=9), codec=st.sampled_from(CODECS), data=st.data())
def test_what_is_joined_is_read_again_in_any_order(present, codec, data, tmp_path_factory):
    chunks = [np.full((3, 5), held * (i + 1), np.uint32) for i, held in enumerate(present)]
    shard = join_chunks(codec.encode(chunk) for chunk in chunks)
    assert bool(shard) == any(present)
    path, order = tmp_path_factory.mktemp("shards") / "shard", data.draw(st.permutations(range(len(chunks))))
    write_file(path, shard)
    for number, content in zip(order, read_chunks(path, len(chunks), order), strict=True):
        held, chunk = present[number], chunks[number]
        assert (content is not None) == held
        if content is not None:
            out = np.empty_like(chunk)
            codec.decode(content, out)
            np.testing.assert_array_equal(out, chunk)


def test_every_flipped_bit_of_a_chunk_is_seen():
    codec, chunk = CODECS[0], np.arange(60, dtype=np.uint32)
    content = codec.encode(chunk)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="checksum"):
            codec.decode(bytes(damaged), np.empty_like(chunk))


@pytest.mark.parametrize("harm", [lambda b: b[:-1], lambda b: b[:10], lambda b: b[:-9] + b"x" + b[-8:]])
def test_a_damaged_index_is_seen(harm, tmp_path):
    shard = join_chunks(CODECS[0].encode(np.full((3, 5), i, np.uint32)) for i in (1, 2, 3))
    write_file(tmp_path / "shard", harm(shard))
    with pytest.raises(ValueError, match="index of shard is damaged"):
        list(read_chunks(tmp_path / "shard", 3, [0]))
