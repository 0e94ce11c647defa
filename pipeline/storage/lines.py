"""Text of others with a limit on its lines, so that a small gzipped file of one endless line takes no memory."""

import io
from typing import IO, cast

from pairscape.pipeline.errors import InputError

LONGEST_LINE = 2**26  # bytes: a gene's values in ten million cells
LONGEST_LIST_LINE = 2**20  # of a list of genes or pairs


def bounded_text(stream: IO[bytes], place: str, longest: int = LONGEST_LINE) -> IO[str]:
    """The text of a stream in UTF-8, with or without a byte-order mark; reading raises as `BoundedLines`."""
    return io.TextIOWrapper(cast(IO[bytes], BoundedLines(stream, place, longest)), encoding="utf-8-sig")


class BoundedLines(io.BufferedIOBase):
    """The bytes of a stream, up to the first line that is too long.

    Parameters
    ----------
    stream
        Read from where it stands; whoever opened it closes it.
    place
        Where it lies, for the message.
    longest
        Bytes of a line, at most.

    Raises
    ------
    InputError
        On reading: a line is longer.
    """

    def __init__(self, stream: IO[bytes], place: str, longest: int = LONGEST_LINE) -> None:
        self._stream, self._place, self._longest = stream, place, longest
        self._length, self._line = 0, 1  # of the line that is being read: its bytes so far, and its number

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """All that is left, or so many bytes."""
        if size is not None and size >= 0:
            return self.read1(size)
        return b"".join(iter(self.read1, b""))

    def read1(self, size: int = -1, /) -> bytes:
        """Some bytes, none at the end."""
        found = self._stream.read(size if 0 <= size < io.DEFAULT_BUFFER_SIZE else io.DEFAULT_BUFFER_SIZE)
        last = max(found.rfind(b"\n"), found.rfind(b"\r"))
        if last < 0:
            self._length += len(found)
        else:
            self._line += found.count(b"\n")
            self._length = len(found) - last - 1
        if self._length > self._longest:
            raise InputError(
                f"{self._place}: line {self._line:,} is longer than {self._longest:,} bytes, so this is no table or "
                "list that can be read; check what the file is, and write a larger matrix as .h5ad or .mtx"
            )
        return found
