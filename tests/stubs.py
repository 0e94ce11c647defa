"""Write `pairscape/__init__.pyi`, what editors and mypy know of the flat functions: `python tests/stubs.py`.

The signatures are those that `pairscape.pipeline.keywords` makes of the option classes; `tests/test_python_face.py`
compares the file with them.
"""

import inspect
import json
import sys
import types
import typing
from inspect import Parameter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "pairscape" / "__init__.pyi"
HEAD = '''"""Written by tests/stubs.py from the option classes; not by hand."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Literal, overload

from anndata import AnnData
from pandas import DataFrame

from pairscape import pl as pl
from pairscape.command_line import __version__ as __version__
from pairscape.command_line import app as app
from pairscape.command_line import main as main
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.heatmaps.plan import Plan
from pairscape.pipeline.heatmaps.verify import StoreDamage
from pairscape.pipeline.matrix.summary import Summary

Place = str | PathLike[str]
Listed = Place | Iterable[Any] | DataFrame
'''


def text() -> str:
    """The file's content."""
    import pairscape

    names = [name for name in pairscape.__all__ if name not in ("__version__", "app", "main", "pl")]
    listed = "".join(f'    "{name}",\n' for name in pairscape.__all__)
    stubs = [_stub(name, inspect.signature(getattr(pairscape, name))) for name in names if name != "predict"]
    of_predict = [f"@overload\n{_stub('predict', signature)}" for signature in _ways_of_predict()]
    return "\n".join([HEAD, f"__all__ = [\n{listed}]\n", *stubs, *of_predict])


def _ways_of_predict():
    """Of an AnnData that keeps the scores, of one that does not, and of files."""
    from anndata import AnnData

    from pairscape.annotated import predict_anndata
    from pairscape.model import commands

    of_files = inspect.signature(commands.predict)
    options = [p for p in of_files.parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
    adata, model, key, _ = inspect.signature(predict_anndata).parameters.values()
    adata = adata.replace(annotation=AnnData)
    kept = [adata, key.replace(annotation=str, default=Parameter.empty), model, *options]
    returned = [adata, key.replace(annotation=None), model, *options]
    return [
        inspect.Signature(kept, return_annotation=None),
        inspect.Signature(returned, return_annotation="DataFrame"),
        of_files,
    ]


def _stub(name, signature):
    lines = []
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    for i, parameter in enumerate(signature.parameters.values()):
        before = kinds[i - 1] if i else None
        if before is Parameter.POSITIONAL_ONLY and parameter.kind is not Parameter.POSITIONAL_ONLY:
            lines.append("/")
        starred = before in (Parameter.KEYWORD_ONLY, Parameter.VAR_POSITIONAL)
        if parameter.kind is Parameter.KEYWORD_ONLY and not starred:
            lines.append("*")
        lines.append(_parameter(parameter))
    if kinds[-1] is Parameter.POSITIONAL_ONLY:
        lines.append("/")
    listed = "".join(f"    {line},\n" for line in lines)
    return f"def {name}(\n{listed}) -> {_kind(signature.return_annotation).replace('Place', 'Path')}: ...\n"


def _parameter(parameter):
    star = "*" * (parameter.kind is Parameter.VAR_POSITIONAL)
    default = "" if parameter.default is Parameter.empty else f" = {_value(parameter.default)}"
    return f"{star}{parameter.name}: {_kind(parameter.annotation)}{default}"


def _value(default):
    return json.dumps(default) if isinstance(default, str) else "..." if isinstance(default, Path) else repr(default)


def _kind(hint):
    """An annotation as text; where a path is taken, text and paths are, and lists where a list is read."""
    if isinstance(hint, str):
        return hint
    if typing.get_origin(hint) is typing.Annotated:
        from pairscape.pipeline.options import LISTED

        inner = _kind(hint.__origin__)
        return inner.replace("Place", "Listed") if LISTED in hint.__metadata__ else inner
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(_kind(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return f"Literal[{', '.join(json.dumps(value) for value in typing.get_args(hint))}]"
    if typing.get_origin(hint) is not None:
        return f"{hint.__origin__.__name__}[{', '.join(map(_kind, typing.get_args(hint)))}]"
    named = {Path: "Place", type(None): "None", None: "None", ...: "...", typing.Any: "Any"}
    return named.get(hint) or hint.__name__


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    FILE.write_text(text(), encoding="utf-8")
