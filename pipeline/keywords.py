"""Every option of a command as a keyword of its function: flat, with its default, in its signature and documentation.

The options of a command are fields of frozen dataclasses, defined once (`pipeline.options`, `model.options`). A command
takes such a dataclass as one parameter that is marked `Flat`; `flat` turns it into the fields, for callers, for
`help()` and for the command line alike. The dataclass itself may still be given. Where a list is read from a file, its
names, tuples or table may be given in Python.
"""

import csv
import difflib
import functools
import hashlib
import inspect
import io
import os
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass, replace
from inspect import Parameter
from itertools import zip_longest
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pairscape.pipeline.compute.main_guard import note_call
from pairscape.pipeline.compute.session import all_loaded
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import LISTED, Flat, expand_home
from pairscape.surroundings import hiding_file, make_printable, require_current_folder

P = ParamSpec("P")
R = TypeVar("R")

Row = tuple[Any, ...]
GENES = {1: ("gene",)}
COLUMNS: dict[str, dict[int, Row]] = {  # of tuples, by option and length; a list that is not named here is one of genes
    "pairs": {2: ("gene_a", "gene_b"), 3: ("gene_a", "gene_b", "label")},
    "network": {2: ("source", "target"), 3: ("source", "target", "weight")},
    "gene_map": {2: ("name", "symbol")},
    "fold_file": {2: ("gene", "fold"), 3: ("gene_a", "gene_b", "fold")},
}
RANDOM_STATE = Parameter("random_state", Parameter.KEYWORD_ONLY, default=None, annotation=int | None)
RANDOM_STATE_WORDS = "random_state\n    scanpy's word for `seed`: give one of the two."
BROKEN_IMPORTS = (ImportError, AttributeError, TypeError)  # what a file in the place of a library leads to


def flat(function: Callable[P, R], read: Callable[[Any], Any] | None = None) -> Callable[P, R]:
    """A command whose parameters marked `Flat` are given field by field, and whose `seed` may be called `random_state`.

    Its `check` refuses keywords without calling it; its `unread` is the command without `read` and `random_state`, for
    the command line.

    Parameters
    ----------
    read
        Makes of what the function returns what a caller in Python gets; the command line, which shows no result, is
        spared it. Absent: the result is returned as it is.

    Raises
    ------
    TypeError
        A keyword is unknown, and the message names the nearest; or one that is needed is not given.
    InputError
        Options are given both as a dataclass and by themselves; a list is none; what the command raises.
    """
    typed = _command(function, Options(function, function), None)
    called = _command(function, Options(function, read or function, RANDOM_STATE), read)
    for command in (typed, called):
        vars(command)["unread"] = typed
    return called


def _command(function: Callable[P, R], options: "Options", read: Callable[[Any], Any] | None) -> Callable[P, R]:
    @functools.wraps(function)
    def command(*args: Any, **given: Any) -> Any:
        result = options.call(args, given)
        return result if read is None else read(result)

    vars(command).update(check=options.gathered, __signature__=options.signature)
    command.__annotations__ = {name: parameter.annotation for name, parameter in options.known.items()}
    command.__doc__ = _documented(function, options.groups, RANDOM_STATE_WORDS * (RANDOM_STATE.name in options.known))
    return typing.cast(Callable[P, R], command)


def with_keywords(function: Callable[..., Any], command: Callable[P, R], other: Callable[..., Any]) -> Callable[P, R]:
    """A function that calls one of two, as the command with the keywords of `other` beside its own."""
    signature, marks = inspect.signature(command), inspect.signature(other).parameters.values()
    more = [parameter for parameter in marks if parameter.kind is Parameter.KEYWORD_ONLY]
    known, added = section(command, "Parameters"), section(other, "Parameters")
    merged = functools.update_wrapper(function, command)
    vars(merged)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), *more])
    merged.__doc__ = inspect.cleandoc(command.__doc__ or "").replace(known, f"{known}\n{added}", 1)
    return typing.cast(Callable[P, R], merged)


class Options:
    """The options of a command.

    Attributes
    ----------
    groups
        The dataclass of each parameter of the function that is marked `Flat`.
    known
        Every option, by its name, as a parameter.
    signature
        Of the flat command.
    """

    def __init__(
        self, function: Callable[..., Any], returning: Callable[..., Any], for_seed: Parameter | None = None
    ) -> None:
        self.function, self.own = function, inspect.signature(function).parameters
        hints = {name: parameter.annotation for name, parameter in self.own.items()}
        self.groups = {name: _options_class(hints[name]) for name in self.own if Flat in typing.get_args(hints[name])}
        flattened = [field for name in self.own for field in _expanded(self.own[name], self.groups.get(name))]
        names = [parameter.name for parameter in flattened]
        if for_seed is not None and "seed" in names:
            flattened.insert(names.index("seed") + 1, for_seed)
        self.known = {parameter.name: parameter for parameter in flattened}
        returned = inspect.signature(returning).return_annotation
        self.signature = inspect.Signature(flattened, return_annotation=returned)

    def call(self, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        """Call the function with options that are given one by one."""
        make_printable()
        require_current_folder()
        note_call()
        positional = [p for p in self.known.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        args = tuple(_as_path(*each) for each in zip_longest(args, positional[: len(args)]))
        lists = {name: value for name, value in given.items() if _is_list(value, self.known.get(name))}
        with _kept_lists(lists, args[-1] if len(args) > 1 else None) as files:
            gathered = self.gathered({**given, **files})
            try:
                return self.function(*args, **gathered)
            except BROKEN_IMPORTS as error:
                if (told := hiding_file(error)) is None:
                    raise
                raise InputError(told) from error
            finally:
                all_loaded()

    def gathered(self, given: dict[str, Any]) -> dict[str, Any]:
        """The keywords that the function itself takes, checked."""
        name = self.function.__name__
        for option in given.keys() - self.known.keys() - self.groups.keys():
            raise TypeError(_unknown(name, option, self.known))
        given = _with_seed(given) if RANDOM_STATE.name in given else given
        taken = {option: _as_path(value, self.known.get(option)) for option, value in given.items()}
        for group, kind in self.groups.items():
            _gather(name, taken, group, kind, self.own[group].default)
        return taken


# ── the signature ────────────────────────────────────────────────────────────────────────────────────────────────────


def _options_class(hint: Any) -> type:
    """The dataclass of a parameter marked `Flat`."""
    kinds = [kind for kind in _within(hint) if is_dataclass(kind)]
    return typing.cast(type, kinds[0])


def _within(hint: Any) -> Iterator[Any]:
    yield hint
    for part in typing.get_args(hint):
        yield from _within(part)


def _expanded(parameter: Parameter, kind: type | None) -> list[Parameter]:
    if kind is None:
        return [parameter]
    hints, default = typing.get_type_hints(kind, include_extras=True), parameter.default
    return [
        Parameter(f.name, Parameter.KEYWORD_ONLY, default=_default(f, default), annotation=hints[f.name])
        for f in fields(kind)
    ]


def _default(field: Any, group: Any) -> Any:
    """What an option is when it is not given: as in the command's own default, else as in the dataclass."""
    if is_dataclass(group) and not isinstance(group, type):
        return getattr(group, field.name)
    return Parameter.empty if field.default is MISSING else field.default


def _unknown(command: str, name: str, known: Mapping[str, Parameter]) -> str:
    words = [option for option, parameter in known.items() if parameter.kind is Parameter.KEYWORD_ONLY]
    nearest = difflib.get_close_matches(name.replace("-", "_").lower(), words, 1, 0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{command}() has no option {name!r}; {hint}help(pairscape.{command}) describes all of them."


# ── the call ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _gather(command: str, given: dict[str, Any], name: str, kind: type, default: Any) -> None:
    """Put the fields of a dataclass that are given into it, in place."""
    own = {field.name: given.pop(field.name) for field in fields(kind) if field.name in given}
    if own and name in given:
        raise InputError(f"{next(iter(own))} is given by itself and {name} holds it too; give one of them.")
    if is_dataclass(default) and not isinstance(default, type):
        given.update({name: replace(default, **own)} if own else {})
    elif own or (default is Parameter.empty and name not in given):
        if lacking := [f.name for f in fields(kind) if f.default is MISSING and f.name not in own]:
            raise TypeError(f"{command}() needs {', '.join(lacking)}; help(pairscape.{command}) describes all options.")
        given[name] = kind(**own)


def _with_seed(given: dict[str, Any]) -> dict[str, Any]:
    """The options with `random_state` taken for `seed`."""
    given = dict(given)
    state, seed = given.pop(RANDOM_STATE.name), given.get("seed")
    if state is None:
        return given
    if not isinstance(state, Integral) or isinstance(state, bool) or state < 0:
        raise InputError(f"random_state is {state!r}: give a whole number from 0 on, which draws the same every time.")
    if seed is not None and seed != state:
        raise InputError(f"seed {seed} and random_state {state} are two words for one number; give one of them.")
    return {**given, "seed": int(state)}


def _as_path(value: Any, parameter: Parameter | None) -> Any:
    """Text as path where one is taken, with `~` filled in."""
    takes_path = parameter is not None and Path in _within(parameter.annotation)
    return Path(expand_home(os.fspath(value))) if takes_path and isinstance(value, str | os.PathLike) else value


# ── lists that are given in Python ───────────────────────────────────────────────────────────────────────────────────


def _is_list(value: Any, parameter: Parameter | None) -> bool:
    listed = parameter is not None and LISTED in _within(parameter.annotation)
    return listed and value is not None and not isinstance(value, str | os.PathLike)


@contextmanager
def _kept_lists(lists: Mapping[str, Any], result: Any) -> Iterator[dict[str, Path]]:
    """Files of lists given in Python, beside the result, which names them; removed if the command refuses its input.

    A file is named by what it holds, so that the same call finds it again. Without a result on a disk it is a
    temporary one.
    """
    import tempfile

    from pairscape.pipeline.storage.paths import is_remote, located
    from pairscape.pipeline.storage.write import write_file

    if not lists:
        yield {}
        return
    texts = {name: list_text(name, value) for name, value in lists.items()}
    with tempfile.TemporaryDirectory(prefix="pairscape-") as scratch:
        on_disk = isinstance(result, str | os.PathLike) and not is_remote(result)
        place = located(result) if on_disk else Path(scratch, "given")
        digests = {name: hashlib.sha256(text.encode()).hexdigest()[:8] for name, text in texts.items()}
        files = {name: place.with_name(f"{place.stem}.{name}-{digests[name]}.csv") for name in texts}
        made = [name for name, file in files.items() if not file.exists()]
        try:
            for name in made:
                write_file(files[name], texts[name].encode())
            yield files
        except (InputError, TypeError):
            for name in made:
                with suppress(OSError):
                    files[name].unlink(missing_ok=True)
            raise


def list_text(name: str, value: Any) -> str:
    """A list of genes, tuples or a table as the text of a file that the commands read.

    Parameters
    ----------
    name
        The option that it is given as.
    value
        DataFrame, Series, mapping, or any iterable of names or of tuples.

    Raises
    ------
    InputError
        It is none of these, is empty, or holds what is no name.
    """
    header, rows = _frame(value) if hasattr(value, "itertuples") else _rows(name, value)
    if not rows:
        raise InputError(f"{name} is an empty list: give one gene, or one pair, at least.")
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([header, *rows] if header else rows)
    return text.getvalue()


def _frame(table: Any) -> tuple[Row | None, list[Row]]:
    """Header and rows of a DataFrame; columns that are numbers are no header, what is missing is empty."""
    filled, columns = table.astype(object).where(table.notna(), ""), tuple(table.columns)
    rows = [tuple(row) for row in filled.itertuples(index=False)]
    return (columns if all(isinstance(column, str) for column in columns) else None), rows


def _rows(name: str, value: Any) -> tuple[Row, list[Row]]:
    """Header and rows of names, tuples, or a mapping."""
    headers = COLUMNS.get(name, GENES)
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise InputError(f"{name} is {value!r}; give a file, a list, or a table.")
    given = value.items() if headers is not GENES and hasattr(value, "items") else _in_order(value)
    rows = [(row,) if isinstance(row, str | Real) or not isinstance(row, Iterable) else tuple(row) for row in given]
    for row in rows:
        if len(row) not in headers or len(row) != len(rows[0]) or not all(map(_is_name, row[:2])):
            words = " or ".join(", ".join(header) for header in headers.values())
            raise InputError(f"{name} holds {row!r}; each is to be {words}; correct or drop it.")
    return headers.get(len(rows[0]) if rows else 0, ()), rows


def _in_order(value: Any) -> list[Any]:
    """The members of a list; of a set sorted, so that the same set is the same file."""
    return sorted(value) if isinstance(value, set | frozenset) else list(value)


def _is_name(cell: Any) -> bool:
    """Whether this names a gene, or is a number; a missing value differs from itself."""
    return isinstance(cell, str | Real) and cell == cell and cell != ""


# ── the documentation ────────────────────────────────────────────────────────────────────────────────────────────────

SECTION = re.compile(r"^(\w[\w ]*)\n-+\n", re.MULTILINE)


def _documented(function: Callable[..., Any], groups: Mapping[str, type], more: str) -> str:
    """The function's documentation with the fields of its dataclasses, and `more`, among its parameters."""
    text = inspect.cleandoc(function.__doc__ or "")
    entries = "\n".join([*([more] if more else []), *(section(kind, "Parameters") for kind in groups.values())])
    own = section(function, "Parameters")
    return text.replace(own, f"{own}\n{entries}", 1) if own and entries else text


def section(documented: Any, name: str) -> str:
    """The lines of one section of a documentation; "" where it has none."""
    text = inspect.cleandoc(documented.__doc__ or "")
    heads = list(SECTION.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return next((text[h.end() : end].rstrip() for h, end in zip(heads, ends, strict=True) if h[1] == name), "")
