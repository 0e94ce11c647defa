"""Files that count as written only when a receipt says so, which is left after they were read back.

A missing shard reads as zeros without a word, and a killed writer may leave anything: what has no valid receipt is
written again.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.storage.paths import content_of
from pairscape.pipeline.storage.write import write_file


def write_receipted(contents: dict[Path, bytes], receipt: Path, facts: dict[str, Any]) -> int:
    """Write files, read them back, and leave their receipt; returns the bytes on disk.

    Parameters
    ----------
    contents
        Bytes of each file; nothing to write is no file.
    facts
        What the receipt says besides: what the files are of.

    Raises
    ------
    JobError
        What was read back differs from what was written.
    """
    for path, content in contents.items():
        write_file(path, content)
        if content and content_of(path) != content:
            raise JobError(f"{path}: read back it differs from what was written; check the disk.")
    files = [[len(content), hashlib.sha256(content).hexdigest()] for content in contents.values()]
    write_file(receipt, json.dumps({**facts, "files": files}).encode())
    return sum(len(content) for content in contents.values())


def receipted(paths: list[Path], receipt: Path, facts: dict[str, Any]) -> bool:
    """Whether the receipt is of these facts, and the files have the sizes that it names."""
    try:
        found = json.loads(receipt.read_text())
        sizes = [size for size, _ in found.pop("files")]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # none, or half of one: not written
        return False
    return found == facts and sizes == [path.stat().st_size if path.exists() else 0 for path in paths]
