"""Files that count as written only when a receipt says so, which is left after they were read back.

A missing shard reads as zeros without a word, and a killed writer may leave anything: what has no valid receipt is
written again. A receipt is JSON: facts of what its files are of, then size and sha256 of each file by its name.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.storage.paths import content_of
from pairscape.pipeline.storage.write import write_file


@dataclass(frozen=True)
class Receipt:
    """What is to be said of some files once they are written.

    Attributes
    ----------
    path
        Where it is left.
    facts
        What the files are of, as JSON has it.
    files
        The files by the names that the receipt has for them.
    """

    path: Path
    facts: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict)

    def read(self, content: bytes | None = None) -> dict[str, Any] | None:
        """What the receipt says; None if there is none, half of one, or one of other facts.

        Parameters
        ----------
        content
            Its bytes, where they are known already.
        """
        try:
            said = json.loads(content_of(self.path) or b"" if content is None else content)
            known = {name: said[name] for name in self.facts} == self.facts
            return said if known and all("bytes" in said[name] for name in self.files) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_valid(self) -> bool:
        """Whether it is there, and its files have the sizes that it names."""
        return (said := self.read()) is not None and self.has_sizes(said, {n: _size(f) for n, f in self.files.items()})

    def has_sizes(self, said: Mapping[str, Any], sizes: Mapping[str, int]) -> bool:
        """Whether the files, by their names, have the sizes that the receipt names."""
        return all(said[name]["bytes"] == sizes[name] for name in self.files)

    def differing(self, said: Mapping[str, Any]) -> str | None:
        """The first file that is not the one described; every byte is read."""
        return next((name for name, file in self.files.items() if _described(content_of(file)) != said[name]), None)

    def rendered(self, said: Mapping[str, Any]) -> bytes:
        """The receipt, to the byte."""
        return json.dumps({**self.facts, **{name: said[name] for name in self.files}}).encode()


def write_receipted(receipt: Receipt, contents: Mapping[str, bytes]) -> int:
    """Write files, read them back, and leave their receipt; returns the bytes on disk.

    Parameters
    ----------
    contents
        Bytes of each file by its name; nothing to write is no file.

    Raises
    ------
    JobError
        What was read back differs from what was written.
    """
    leave_receipt(receipt, write_described(receipt, contents))
    return sum(len(contents[name]) for name in receipt.files)


def write_described(receipt: Receipt, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """Write some of a receipt's files, read them back, and describe them for the receipt. Raises like all writing."""
    for name, content in contents.items():
        write_checked(receipt.files[name], content)
    return {name: _described(content or None) for name, content in contents.items()}


def leave_receipt(receipt: Receipt, described: Mapping[str, Any]) -> None:
    """Leave a receipt whose files are all written and described."""
    write_file(receipt.path, receipt.rendered(described))


def write_checked(file: Path, content: bytes) -> None:
    """Write a file and read it back.

    Raises
    ------
    JobError
        It does not hold what was written.
    """
    write_file(file, content)
    if content and content_of(file) != content:
        raise JobError(f"{file}: read back it differs from what was written; check the disk, then run again.")


def _described(content: bytes | None) -> dict[str, Any]:
    """Size and checksum of a file; None: there is none, since it would hold only zeros."""
    if content is None:
        return {"bytes": 0, "sha256": None}
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
