"""Zarr stores that others made: opened to be read, with no codec but plain ones, and no file but plain ones.

A codec such as numcodecs' pickle runs code that the store brings along. So each metadata document is looked at before
zarr sees it, whichever codecs are installed: of formats 2 and 3, of one array or of all (consolidated).
"""

import json
from collections.abc import AsyncGenerator, Iterable, Iterator
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.paths import is_remote
from pairscape.pipeline.storage.plain_files import check_plain_file

METADATA = ("zarr.json", ".zarray", ".zmetadata")
CODEC_FIELDS = ("codecs", "index_codecs", "filters", "compressor", "object_codec", "object_codec_id")
# Codecs that do nothing but arithmetic and compression, as formats 2 and 3 name them.
PLAIN = {
    "adler32", "astype", "base64", "bitround", "blosc", "bytes", "bz2", "cast_value", "categorize", "crc32", "crc32c",
    "delta", "endian", "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "json2", "lz4", "lzma", "msgpack2",
    "packbits", "pcodec", "quantize", "scale_offset", "sharding_indexed", "shuffle", "transpose", "vlen-array",
    "vlen-bytes", "vlen-utf8", "zfpy", "zlib", "zstd",
}  # fmt: skip


def open_to_read(place: str) -> zarr.Group:
    """The root group of a store; whatever of it is read has plain codecs.

    Raises
    ------
    InputError
        Now or when an array is opened: it has another codec.
    """
    return zarr.open_group(_plain_store(place), mode="r")


def open_array_to_read(place: str, name: str) -> zarr.Array[Any]:
    """One array of a store; raises as `open_to_read`."""
    return zarr.open_array(_plain_store(place), path=name, mode="r")


def folder_of(array: zarr.Array[Any]) -> Path | None:
    """The folder on a disk that holds the store of an array; None if it lies elsewhere."""
    store: Any = array.store
    inner = store._store if isinstance(store, PlainStore) else store
    return Path(inner.root) if isinstance(inner, LocalStore) else None


def _plain_store(place: str) -> "PlainStore":
    inner: Any = FsspecStore.from_url(place, read_only=True) if is_remote(place) else LocalStore(place, read_only=True)
    return PlainStore(inner)


class PlainStore(WrapperStore[Any]):
    """A store whose metadata is checked as it is read."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes under a key; InputError if they name a codec that is not plain."""
        if isinstance(self._store, LocalStore):
            check_plain_file(str(self._store.root / key))
        found = await super().get(key, prototype, byte_range)
        if found is not None and key.rpartition("/")[2] in METADATA:
            check_codecs(found.to_bytes(), f"{self._store}/{key}".removeprefix("file://"))
        return found

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for request in requests:
            yield request[0], await self.get(*request)


def check_codecs(metadata: bytes, place: str) -> None:
    """Refuse metadata with a codec that is not plain; metadata that is no JSON is zarr's to refuse.

    Raises
    ------
    InputError
        It names one.
    """
    try:
        document = json.loads(metadata)
    except (ValueError, RecursionError):
        return
    strange = next((name for name in _codec_names(document) if name.removeprefix("numcodecs.") not in PLAIN), None)
    if strange is not None:
        why = "it runs code that the store brings along" if "pickle" in strange else "what it does is not known here"
        raise InputError(
            f"{place} is stored with the codec {strange!r}, which is never read: {why}; have its maker write it again "
            "with zstd or blosc"
        )


def _codec_names(document: Any) -> Iterator[str]:
    """The names of all codecs in a metadata document, and in the documents that it holds."""
    if not isinstance(document, dict):
        return
    for field in CODEC_FIELDS:
        yield from _names_in(document.get(field))
    consolidated = document.get("consolidated_metadata")
    for holder in (document, consolidated if isinstance(consolidated, dict) else {}):
        held = holder.get("metadata")
        for inner in held.values() if isinstance(held, dict) else ():
            yield from _codec_names(inner)


def _names_in(codecs: Any) -> Iterator[str]:
    """The names that a field of codecs gives: one or several, each a word or a table with `name` or `id`."""
    for codec in codecs if isinstance(codecs, list) else [codecs]:
        if isinstance(codec, dict):
            named = [str(codec[key]) for key in ("name", "id") if key in codec]
            yield from named or ["without a name"]
            yield from _codec_names(codec)
            yield from _codec_names(codec.get("configuration"))
        elif codec is not None:
            yield str(codec)
