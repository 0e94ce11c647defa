"""Why an HDF5 file or a Zarr store cannot be read, in words that blame the right thing.

"It is damaged" is said where a checksum, a decompressor or the form of the file says so. A file that is open elsewhere,
a filter that is not installed, a missing permission and a mistake of ours are something else.
"""

import errno
import json
import re
import struct
import zlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py

from pairscape.pipeline.errors import InputError, first_line
from pairscape.pipeline.storage.paths import STORAGE_CLIENTS, is_remote

with suppress(ImportError, OSError):  # its import teaches HDF5 the filters of others, where it is installed
    import hdf5plugin  # noqa: F401

OURS = (NameError, AttributeError, TypeError, AssertionError, ImportError, NotImplementedError)  # mistakes in code
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EIO}
LOCK_ERROR = re.compile(r"unable to lock file, errno = (\d+)")
DISK_ERROR = re.compile(r"file (?:read|open|seek) failed: .*errno = (\d+)")
FAILING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENXIO, errno.ENOTCONN}
LEFT_OPEN = "already open for write"  # HDF5's words for a file whose writer did not close it
FILTER_ERROR = re.compile(r"can't open directory|required filter|not registered|plugin|filter.*not available", re.I)
# What checksums, decompressors and the forms themselves say of bytes that are not what was written.
DAMAGE = re.compile(
    r"truncated|checksum|crc32|signature not found|bad (object header|superblock|heap|symbol|local|global)|"
    r"wrong (magic|version|\w+ signature)|filter returned failure|decompress|"
    r"invalid (header|block|distance|stored|code)|unexpected end|end of file|unable to load|"
    r"addr overflow|inflate|corrupt",
    re.I,
)
BROKEN_BYTES = (zlib.error, EOFError, UnicodeDecodeError, struct.error, json.JSONDecodeError)
UNKNOWN_CODEC = re.compile(r"codec_id=?\(?['\"]([\w.\-]+)|codec:? ['\"]?([\w.\-]+)|name ['\"]([\w.\-]+)['\"]")
FILTERS = {
    305: "LZO", 307: "bzip2", 32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "Bitshuffle", 32013: "ZFP",
    32015: "Zstandard", 32017: "SZ", 32024: "SZ3", 32026: "Blosc2", 32028: "SPERR",
}  # fmt: skip


def is_mistake_of_ours(error: BaseException) -> bool:
    """Whether code of Pairscape raised an error of the kind that no file can be blamed for."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return isinstance(error, OURS) and at is not None and at.tb_frame.f_globals["__name__"].startswith("pairscape.")


def unreadable(place: str, error: Exception) -> InputError:
    """The error to raise when a library cannot read a file."""
    return InputError(f"{place} cannot be read ({first_line(error)}): {_cause(place, error) or _unclear(place, error)}")


def _cause(place: str, error: Exception) -> str:
    """What is wrong and what to do, as far as it is known; "" where it is not."""
    text = str(error)
    if (found := LOCK_ERROR.search(text)) or LEFT_OPEN in text:
        return _lock(int(found[1]) if found else 0)
    if isinstance(error, PermissionError):
        return "permission is denied: ask its owner, or copy it"
    if _storage_fails(place, error):
        where = "the storage refuses or fails" if is_remote(place) else "the disk, or the network to it, fails"
        return f"{where}: check {'the URL and the credentials' if is_remote(place) else 'it'}, and try again"
    if isinstance(error, FileNotFoundError) and not is_remote(place) and not Path(place).exists():
        return "it has been moved or removed meanwhile: give its new place"
    if FILTER_ERROR.search(text) and (missing := _missing_filters(place)):
        return f"it is compressed with {missing}, which this HDF5 lacks: pip install hdf5plugin"
    named = "codec" in text.lower() and isinstance(error, ValueError | KeyError)
    if named or "codec" in type(error).__name__.lower():
        return _codec(text)
    if isinstance(error, BROKEN_BYTES) or DAMAGE.search(text):
        return "it is damaged or not what its name says: write or fetch it again"
    return ""


def _storage_fails(place: str, error: Exception) -> bool:
    """Whether a disk or a storage has failed, and not what lies there."""
    if is_remote(place):
        told = isinstance(error, OSError) and not DAMAGE.search(str(error)) and "codec" not in str(error)
        return told or type(error).__module__.partition(".")[0] in STORAGE_CLIENTS
    found = DISK_ERROR.search(str(error))
    number = int(found[1]) if found else getattr(error, "errno", None)
    return isinstance(error, OSError) and number in FAILING


def _lock(number: int) -> str:
    if number in NO_LOCKS:
        return (
            "its file system has no locks, which HDF5 asks for: set HDF5_USE_FILE_LOCKING=FALSE in the environment, or "
            "copy it to another disk"
        )
    return (
        "it is open for writing in another program, such as a notebook with backed='r+': close it there, or copy it "
        "once it is closed; if that program has died, h5clear -s FILE releases it"
    )


def _missing_filters(place: str) -> str:
    """The filters of a file that this HDF5 lacks."""
    found: set[int] = set()

    def note(_: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset):
            plist = member.id.get_create_plist()
            numbers = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
            found.update(number for number in numbers if not h5py.h5z.filter_avail(number))

    with suppress(OSError, RuntimeError, ValueError), h5py.File(place, "r") as root:
        root.visititems(note)
    return " and ".join(f"the filter {FILTERS.get(number, f'number {number}')}" for number in sorted(found))


def _codec(text: str) -> str:
    named = UNKNOWN_CODEC.search(text)
    codec = next((name for name in (named.groups() if named else ()) if name), "one that is named below")
    return (
        f"its codec {codec} is not known to the zarr {version('zarr')} and numcodecs {version('numcodecs')} that are "
        "installed: install the package that has it, such as numcodecs[pcodec,zfpy], or write it again with zstd"
    )


def _unclear(place: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and not is_remote(place):
        return "it is no Zarr store, or not a whole one: it has no zarr.json or .zgroup; write or fetch it again"
    kind = type(error).__name__
    library = "zarr" if place.endswith(".zarr") else "h5py"
    return (
        f"the installed {library} {version(library)} and anndata {version('anndata')} do not understand it ({kind}); "
        "write it again with a current anndata, or, if other programs read it, report it"
    )
