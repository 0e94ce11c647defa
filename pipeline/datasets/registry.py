"""The public data sets that `pairscape fetch` knows: `registry.toml`, whose head explains the fields. Pure."""

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set: where it lies, and what it must be.

    Attributes
    ----------
    name
        Its name in the folder of the data set.
    urls
        Tried in turn; none: it is served from `PAIRSCAPE_DATA` only.
    bytes
        Its size; None: not known.
    sha256
        Hex, lower case; None: nobody publishes it, so the first fetch is recorded and later ones are held to it.
    checksum
        Who published the sum; None: it was taken from the file itself.
    unpack
        Folder wanted of an archive; None: the file is used as it is.
    """

    name: str
    urls: tuple[str, ...]
    bytes: int | None = None
    sha256: str | None = None
    checksum: str | None = None
    unpack: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is not None and not SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 {self.sha256!r} of {self.name} is not 64 hexadecimal digits")


@dataclass(frozen=True)
class DataSet:
    """A public data set; the fields are those of `registry.toml`."""

    name: str
    title: str
    organism: str
    contents: str
    labels: str
    licence: str
    citation: str
    folder: str
    use: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    note: str | None = None

    @property
    def bytes(self) -> int | None:
        """Size of all of it; None where that of a file is not known."""
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def read_registry(text: str | None = None) -> dict[str, DataSet]:
    """All known data sets by name, in the order of the file.

    Parameters
    ----------
    text
        TOML. Absent: the registry that comes with the package.
    """
    if text is None:
        text = files("pairscape.pipeline.datasets").joinpath("registry.toml").read_text(encoding="utf-8")
    return {name: _data_set(name, **fields) for name, fields in tomllib.loads(text).items()}


def _data_set(name: str, *, files: list[dict[str, object]], use: list[str], **fields: str) -> DataSet:
    remote = tuple(_remote_file(**file) for file in files)  # type: ignore[arg-type]
    return DataSet(name=name, use=tuple(use), files=remote, **fields)


def _remote_file(*, urls: list[str], **fields: object) -> RemoteFile:
    return RemoteFile(urls=tuple(urls), **fields)  # type: ignore[arg-type]
