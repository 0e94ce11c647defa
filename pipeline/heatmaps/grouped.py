"""Cells that were encoded before, in groups by the annotations that their matrix has now; pairs counted by group."""

import numpy as np

from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.cell_groups import CellGroups, group_cells
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Grouping
from pairscape.pipeline.storage.paths import fingerprint, located


def groups_of_codes(codes: Codes, grouping: Grouping) -> CellGroups:
    """The group of every cell of a code store.

    Raises
    ------
    InputError
        The matrix is gone or has changed, or as `group_cells`.
    """
    matrix = str(codes.provenance.get("matrix", ""))
    why = "which says what group a cell is in"
    if not matrix or not located(matrix).exists():
        raise InputError(
            f"the matrix that {codes.path} was made from, {why}, is not at {matrix or 'any known place'} any more; "
            "leave out --by, or count it again: pairscape heatmaps EXPRESSION IMAGES.zarr --by COLUMN."
        )
    if fingerprint(matrix) != codes.provenance.get("fingerprint"):
        raise InputError(
            f"{matrix}, {why}, has changed since {codes.path} was made from it, so its annotations could be of other "
            "cells; count it again: pairscape heatmaps EXPRESSION IMAGES.zarr --by COLUMN."
        )
    annotations = open_expression(matrix).obs().iloc[codes.array("cell").astype(np.int64)]
    return group_cells(annotations, grouping.columns, grouping.min_group_cells)
