"""A matrix as somebody else wrote it: names of both axes at once, values a block of cells at a time.

Every format has a reader in a file of its own; `pipeline.matrix.ingest` knows only what stands here.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import pandas as pd
from scipy import sparse


class Reader(Protocol):
    """Values of a matrix on disk. Small and picklable: workers receive it and open the file themselves."""

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Cells start..stop, (stop - start, gene) float32 CSR, indices sorted, no explicit zeros, values unchecked.

        Raises
        ------
        InputError
            The file is damaged, or has changed since it was opened.
        """


@dataclass(frozen=True, eq=False)
class Source:
    """A cells × genes matrix that can be ingested, whatever its format and orientation on disk.

    Attributes
    ----------
    name
        Where it lies, for messages.
    obs, var
        Annotations of the cells and of the genes, indexed by their names as text, repeated ones included.
    values
        What becomes the expression.
    counts
        Raw counts that came beside it, of the same shape; None where there are none, or where `values` may be them.
    orientation
        What the rows of the source are: "genes-by-cells" or "cells-by-genes".
    orientation_from
        What told so: the "names", a "request", the "format" or an "assumption".
    stamp
        Changes when a file of the source changes: an interrupted ingest goes on only with the same one.
    block_cells
        Cells that are best read together; a multiple of it costs no part of the file twice.
    notes
        What was left out or decided in opening it, a sentence each, to be told to the user.
    """

    name: str
    obs: pd.DataFrame
    var: pd.DataFrame
    values: Reader
    counts: Reader | None
    orientation: Literal["genes-by-cells", "cells-by-genes"]
    orientation_from: str
    stamp: str
    block_cells: int = 1
    notes: tuple[str, ...] = ()
