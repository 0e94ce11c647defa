"""The codes of a file of scores made again from its matrix, where they were deleted."""

from pathlib import Path
from typing import Any

import numpy as np

from pairscape.model.edges.scores import read_facts
from pairscape.pipeline.codes.encode import encoding
from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning


def codes_again(scores: Path, expression: Any, session: Session) -> Codes:
    """Encode the matrix that was predicted on, beside the scores; codes that are there already are taken.

    Parameters
    ----------
    expression
        Expression store or .h5ad of the very values that were scored.

    Raises
    ------
    InputError
        It is another matrix, or the scores do not say how their codes were made.
    """
    facts = read_facts(scores)
    model, wanted = facts.get("model") or {}, (facts.get("codes") or {}).get("content_hash")
    if not wanted or "scale" not in model or (facts.get("pairs") or {}).get("cells", "all") != "all":
        raise InputError(
            f"{scores} does not say how its cells were encoded, so they cannot be encoded again; leave out "
            "--expression."
        )
    matrix = open_expression(expression)
    target = scores.with_name(f"{scores.stem}.codes.zarr").absolute()
    binning, cells = Binning(model["scale"], model["bins"]), np.arange(matrix.n_cells)
    with encoding(matrix, target, binning, cells, session) as found:
        if found.content_hash != wanted:
            raise InputError(
                f"{expression} is not the matrix that {scores} was scored from: its values, genes or cells differ; "
                "give that one (predict may have written it, as NAME.expression.zarr), or leave --expression out."
            )
        return found.finish()
