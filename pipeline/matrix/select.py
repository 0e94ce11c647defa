"""Which cells and genes of a matrix are asked for: a condition on obs, a list of genes, those of the mitochondrion."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError, first_line
from pairscape.pipeline.genes.lists import read_gene_map, read_genes
from pairscape.pipeline.genes.resolve import Vocabulary

COLUMNS_SHOWN = 8
LEAST_MATCHED = 0.5  # of a list of genes: below it, the list is of other genes
QUOTED = re.compile(r"`([^`]+)`")
# What a condition may be made of; no calls and no attributes, so that it can do nothing but compare.
ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Invert, ast.USub, ast.BinOp, ast.BitAnd,
    ast.BitOr, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
    ast.In, ast.NotIn, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple,
)  # fmt: skip


def choose_cells(obs: pd.DataFrame, condition: str | None) -> NDArray[np.bool_]:
    """(cell,) which cells a condition on columns of obs picks; all, if there is no condition.

    Raises
    ------
    InputError
        It is no condition, names something that is no column, or picks no cell.
    """
    if condition is None:
        return np.ones(len(obs), bool)
    names = _columns_named(condition, obs)
    # Under plain names no column can be taken for a function or for the index.
    renamed = {name: f"column_{number}" for number, name in enumerate(names)}
    table = pd.DataFrame({renamed[name]: obs[name].to_numpy() for name in names}, index=range(len(obs)))
    try:
        picked = table.eval(_reworded(condition, renamed), engine="python", local_dict={}, global_dict={})
        chosen = np.asarray(picked)
    except Exception as error:  # pandas raises whatever the comparison of two columns raises
        raise InputError(f"--cells {condition!r} cannot be evaluated ({first_line(error)}); {_columns(obs)}") from error
    if chosen.shape != (len(obs),) or chosen.dtype != bool:
        raise InputError(f"--cells {condition!r} is no condition that a cell meets or not; {_columns(obs)}")
    if not chosen.any():
        raise InputError(f"--cells {condition!r} picks none of the {len(obs):,} cells; {_values(obs, names)}")
    return chosen


def _columns_named(condition: str, obs: pd.DataFrame) -> list[str]:
    """Columns that a condition compares."""
    quoted = {f"_quoted_{number}": name for number, name in enumerate(QUOTED.findall(condition))}
    plain = condition
    for stand_in, name in quoted.items():
        plain = plain.replace(f"`{name}`", stand_in, 1)
    try:
        nodes = list(ast.walk(ast.parse(plain.strip(), mode="eval")))
    except (SyntaxError, ValueError) as error:
        reason = getattr(error, "msg", str(error))
        raise InputError(f"--cells {condition!r} is no condition ({reason}); {_columns(obs)}") from error
    if strange := next((node for node in nodes if not isinstance(node, ALLOWED)), None):
        kind = type(strange).__name__.lower()
        raise InputError(f"--cells {condition!r} may only compare columns of obs, and has a {kind}; {_columns(obs)}")
    named = dict.fromkeys(quoted.get(node.id, node.id) for node in nodes if isinstance(node, ast.Name))
    if unknown := [name for name in named if name not in obs.columns]:
        raise InputError(f"--cells {condition!r}: obs has no column {unknown[0]!r}; {_columns(obs)}")
    return list(named)


def _reworded(condition: str, renamed: dict[str, str]) -> str:
    """A condition with other names for its columns; text between quotes stays as it is."""
    words = re.split(r"""('[^']*'|"[^"]*")""", condition)
    for i in range(0, len(words), 2):
        words[i] = QUOTED.sub(lambda found: renamed[found[1]], words[i])
        words[i] = re.sub(r"[^\W\d]\w*", lambda found: renamed.get(found[0], found[0]), words[i])
    return "".join(words).strip()


def _columns(obs: pd.DataFrame) -> str:
    names = [str(name) for name in obs.columns]
    more = f" and {len(names) - COLUMNS_SHOWN} more" if len(names) > COLUMNS_SHOWN else ""
    listed = f"its columns are {', '.join(names[:COLUMNS_SHOWN])}{more}" if names else "obs has no columns"
    return f"{listed}; write for example \"cell_type == 'dendritic'\""


def _values(obs: pd.DataFrame, names: list[str]) -> str:
    """Examples of what the first column of a condition holds."""
    if not names:
        return _columns(obs)
    held = [str(value) for value in pd.unique(obs[names[0]].dropna())[:5]]
    return f"{names[0]} has values such as {', '.join(held) or 'none at all'}"


def choose_genes(
    file: Path | None, genes: pd.Index, symbols: Sequence[str] | None, others: Sequence[str] | None = None
) -> tuple[NDArray[np.bool_], str]:
    """(gene,) which genes a list names, and in words how many of its names were found; all, if there is no list.

    Raises
    ------
    InputError
        The list cannot be read; less than half of the names are genes of the matrix.
    """
    if file is None:
        return np.ones(len(genes), bool), ""
    names = read_genes(file)
    vocabulary = Vocabulary(list(genes), symbols, min_matched=LEAST_MATCHED, advise=False, others=others)
    found = vocabulary.find(names, "genes", file)
    chosen = np.zeros(len(genes), bool)
    chosen[found.index[found.index >= 0]] = True
    return chosen, found.report(f"genes of {file.name}")


def mapped_symbols(file: Path, genes: pd.Index) -> tuple[list[str], str]:
    """(gene,) symbols of the genes by a file of two columns, "" where it has none, and in words how many it has.

    Raises
    ------
    InputError
        The map cannot be read; neither column names a gene of the matrix.
    """
    rows, own = read_gene_map(file), set(genes)
    first, second = (sum(row[side] in own for row in rows) for side in (0, 1))
    if not first and not second:
        raise InputError(
            f"{file}: neither of its columns names a gene of the matrix, which has {', '.join(genes[:3])}; give a map "
            "from these names to symbols"
        )
    known = dict(rows) if first >= second else {other: one for one, other in rows}
    symbols = [known.get(gene, "") for gene in genes]
    return symbols, f"{file.name} gives {sum(map(bool, symbols)):,} of the {len(genes):,} genes a symbol"


def mitochondrial(genes: pd.Index, symbols: Sequence[str] | None) -> NDArray[np.bool_]:
    """(gene,) genes of the mitochondrion, as their symbols tell: MT-ND1, mt-Nd1."""
    names = pd.Index(genes if symbols is None else [s or gene for s, gene in zip(symbols, genes, strict=True)])
    return np.asarray(names.str.match(r"(?:[A-Za-z0-9]+_+)?mt-", case=False), bool)
