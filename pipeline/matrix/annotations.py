"""Annotations of cells and genes as others leave them, made such that a store can hold them; what cannot be goes.

No job needs them, so none may stop for them: a column is renamed, becomes text, or is left out, and that is said.
"""

from typing import Any

import numpy as np
import pandas as pd

from pairscape.pipeline.errors import printable

SAID = "annotations of"  # how each note begins
MOST_NAMED = 5
# What pandas calls the values of an object column: those that become text as they are, and those that are left as text.
WORDS = ("string", "empty")
SCALARS = (
    "integer", "floating", "boolean", "decimal", "mixed-integer", "mixed-integer-float", "date", "datetime",
    "datetime64", "time", "timedelta", "timedelta64", "period", "interval", "bytes", "mixed",
)  # fmt: skip
NULLABLE = {"boolean", *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
ONE_VALUE = (str, bytes, int, float, bool, np.generic, type(None))  # what a mixed column may hold and be text


def storable(frame: pd.DataFrame, what: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The same annotations as a store can hold them, and what has to be said of it.

    Parameters
    ----------
    what
        "cells" or "genes".
    """
    names = _names(frame.columns)
    kept: dict[str, Any] = {}
    renamed, worded, dropped = list[str](), list[str](), list[str]()
    for number, (old, new) in enumerate(zip(frame.columns, names, strict=True)):
        column = frame.iloc[:, number]
        values, changed = _storable(column)
        if values is None:
            dropped.append(f"{old} ({changed})")
            continue
        if changed:
            worded.append(f"{old} ({changed})")
        if str(old) != new:
            renamed.append(f"{old!r} is {new!r}")
        kept[new] = values.array  # without the names of the rows, which may be repeated
    index = frame.index.rename(None)
    said = (("left out, which a store cannot hold", dropped), ("kept as text", worded), ("renamed", renamed))
    notes = tuple(printable(f"{SAID} {what} {verb}: {_some(columns)}") for verb, columns in said if columns)
    return pd.DataFrame(kept, index=index), notes


def unread(what: str, names: list[str]) -> tuple[str, ...]:
    """What has to be said of columns that could not be read."""
    return (printable(f"{SAID} {what} left out, which cannot be read: {_some(names)}"),) if names else ()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _names(columns: pd.Index) -> list[str]:
    """Names that are text, without slashes, each once."""
    from anndata.utils import make_index_unique  # half a second, and only stores that are written need it

    plain = [str(name).replace("/", "_") or "unnamed" for name in columns]
    plain = [f"{name}_" if name in ("_index", ".", "..") else name for name in plain]
    return [str(name) for name in make_index_unique(pd.Index(plain, dtype=object))]


def _storable(column: pd.Series) -> tuple[Any, str]:
    """The values of a column, None if they cannot be kept, and what they were if they are not kept as they are."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _categories(column)
    if isinstance(dtype, pd.SparseDtype):
        column = column.sparse.to_dense()
        dtype = column.dtype
    if isinstance(dtype, pd.StringDtype) and dtype.na_value is pd.NA:
        return column.astype(object).astype("category"), ""
    if isinstance(dtype, pd.StringDtype):  # what pandas 3 makes of text: kept as the objects that earlier ones have
        return _objects(column.astype(object))
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return _objects(column)
    if isinstance(dtype, np.dtype):
        return _numbers(column, dtype)
    if dtype.name in NULLABLE:
        return column, ""
    if dtype.name in ("Float32", "Float64"):
        return column.astype(np.float64), ""
    return _as_text(column), str(dtype)


def _numbers(column: pd.Series, dtype: "np.dtype[Any]") -> tuple[Any, str]:
    if dtype.kind in "biu":
        return column, ""
    if dtype.kind == "f":
        return column if dtype.itemsize <= 8 else column.astype(np.float64), ""
    return (_as_text(column), str(dtype)) if dtype.kind in "mM" else (None, str(dtype))


def _categories(column: pd.Series) -> tuple[Any, str]:
    """A categorical whose categories are text, numbers or flags; other categories become text."""
    categories = column.cat.categories
    kind = pd.api.types.infer_dtype(categories)
    if isinstance(categories.dtype, pd.StringDtype):
        return column.cat.rename_categories(categories.astype(object)), ""
    if kind in ("string", "integer", "floating", "boolean", "empty"):
        return column, ""
    if kind in ("mixed", "mixed-integer") and not all(isinstance(value, ONE_VALUE) for value in categories):
        return None, "categories that are no words"
    return _as_text(column.astype(object)), f"categories of the kind {kind}"


def _objects(column: pd.Series) -> tuple[Any, str]:
    """A column of Python objects: words as they are, single values as text, nested ones not at all."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in WORDS:
        return (column if not column.isna().any() else column.astype("category")), ""
    single = kind in SCALARS and (kind != "mixed" or all(isinstance(value, ONE_VALUE) for value in column))
    return (_as_text(column), f"of the kind {kind}") if single else (None, f"of the kind {kind}")


def _as_text(column: pd.Series) -> pd.Series:
    """Each value as text, missing ones kept so."""
    values = column.astype(object).to_numpy()
    text = [None if gone else _word(value) for value, gone in zip(values, column.isna(), strict=True)]
    return pd.Series(text, index=column.index, dtype=object).astype("category")


def _word(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
