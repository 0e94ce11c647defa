"""Parts of an AnnData on disk as `anndata.io.read_elem` returns them, which is loaded only where they need it.

Importing anndata takes half a second, and what a small job reads of an AnnData is plain: tables of numbers, text and
categories, and dictionaries of these.
"""

from collections.abc import Callable
from typing import Any

import h5py
import pandas as pd

Read = Callable[[Any], Any]


def read_element(element: Any) -> Any:
    """What `anndata.io.read_elem` reads, or raises."""
    try:
        return PLAIN[_encoding(element)](element)
    except Exception:  # noqa: BLE001 — whatever is not plain, or is damaged, is anndata's matter
        from anndata.io import read_elem

        return read_elem(element)


def _encoding(element: Any) -> tuple[str, str]:
    attributes = element.attrs
    return str(attributes.get("encoding-type")), str(attributes.get("encoding-version"))


def _array(element: Any) -> Any:
    return element[()]


def _texts(element: Any) -> Any:
    return (element.asstr() if isinstance(element, h5py.Dataset) else element)[()]


def _text(element: Any) -> str:
    return str(_texts(element))


def _number(element: Any) -> Any:
    return element[()].item()


def _mapping(element: Any) -> dict[str, Any]:
    return {name: read_element(element[name]) for name in element}


def _categorical(element: Any) -> pd.Categorical:
    codes, categories = (read_element(element[name]) for name in ("codes", "categories"))
    return pd.Categorical.from_codes(codes, categories, ordered=bool(element.attrs["ordered"]))


def _frame(element: Any) -> pd.DataFrame:
    columns, index = [str(name) for name in element.attrs["column-order"]], str(element.attrs["_index"])
    values = {name: read_element(element[name]) for name in columns}
    frame = pd.DataFrame(values, index=read_element(element[index]), columns=columns or None)
    frame.index.name = None if index == "_index" else index
    return frame


PLAIN: dict[tuple[str, str], Read] = {
    ("array", "0.2.0"): _array,
    ("string-array", "0.2.0"): _texts,
    ("string", "0.2.0"): _text,
    ("numeric-scalar", "0.2.0"): _number,
    ("dict", "0.1.0"): _mapping,
    ("categorical", "0.2.0"): _categorical,
    ("dataframe", "0.2.0"): _frame,
}
