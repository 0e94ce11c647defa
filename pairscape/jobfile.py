"""A whole job in one TOML file: its steps as command lines, and a note in the folder of each step that is done.

| table | reads | writes |
|---|---|---|
| `[ingest]` | `matrix`, one or a list | FOLDER/expression.zarr |
| `[plant]` | `matrix`, one or a list | FOLDER/planted/NAME.zarr of each, or several |
| `[heatmaps]` | those, or the `expression` of the table, one or a list | FOLDER/images.zarr, or images/NAME.zarr |
| `[train]` | the images, or the `images` of the table, one or a list | FOLDER/run |
| `[predict]` | that run, or `run`; the `expression` of the table, or the one above | FOLDER/scores.parquet |
| `[export]` | the scores, or `scores` | FOLDER/`file` |

Every other name in a table is the option of that name, with `_` or `-`. At the top stand `folder`, and options that all
steps share.
"""

import json
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pairscape.pipeline.datasets.designs import numbered
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import expand_home
from pairscape.pipeline.storage.digests import digest
from pairscape.pipeline.storage.plain_files import check_plain_file
from pairscape.pipeline.storage.write import remove_empty, write_file

ON_DASK = ("ingest", "heatmaps", "predict")
SHARED = {
    "seed": ("plant", "heatmaps", "train", "predict"),
    "scheduler": ON_DASK,
    "workers": ON_DASK,
    "memory_limit": ON_DASK,
}

Table = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One command of a job.

    Attributes
    ----------
    name
        Of the command; of one of several, followed by the name of what it writes.
    words
        What would be typed after `pairscape`.
    output
        What it writes.
    """

    name: str
    words: tuple[str, ...]
    output: Path


def read_job(path: Path) -> tuple[Path, list[Step]]:
    """The folder of a job and its steps, in order. Paths in the file are as seen from the folder it lies in.

    Raises
    ------
    InputError
        No such file, not TOML, no folder or no step named, a table that is none of the steps, or one that lacks what
        it reads. Options are checked by the commands themselves.
    """
    job = _read(path)
    tables = {name: value for name, value in job.items() if isinstance(value, dict)}
    shared = {name.replace("-", "_"): value for name, value in job.items() if name not in tables}
    if not isinstance(folder := shared.pop("folder", None), str):
        raise InputError(f"{path}: folder is {folder!r}; say where all is made, such as folder = 'results'.")
    for kind, found, known in (("table", tables, tuple(_LINES)), ("name", shared, ("folder", *SHARED))):
        if unknown := [name for name in found if name not in known]:
            raise InputError(f"{path}: {kind} {unknown[0]!r} is unknown; known are {', '.join(known)}.")
    if not tables:
        raise InputError(f"{path} names no step; give one or more of the tables {', '.join(f'[{n}]' for n in _LINES)}.")
    steps, made = list[Step](), _Made(Path(expand_home(folder)))
    for name in _LINES:
        if name in tables:
            given = {option: value for option, value in shared.items() if name in SHARED[option]}
            steps += _steps(path, name, made, given | _underscored(tables[name]))
    return made.folder, steps


def _read(path: Path) -> Table:
    try:
        check_plain_file(path)
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a TOML file that describes a job.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML ({error}); correct it.") from error


def _underscored(table: Table) -> Table:
    return {name.replace("-", "_"): value for name, value in table.items()}


@dataclass
class _Made:
    """Where the steps so far write to; `planted` and `images` where there are several."""

    folder: Path
    planted: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)


class _Call(NamedTuple):
    """One call of a command: what it reads, what it writes, and options of its own."""

    inputs: list[Any]
    output: Path
    options: Table | None = None
    last: Path | None = None  # of several outputs


def _steps(path: Path, name: str, made: _Made, options: Table) -> Iterator[Step]:
    try:
        calls = _LINES[name](made, options)
    except KeyError as error:
        raise InputError(f"{path}: [{name}] lacks {error.args[0]}, which it cannot do without; add it.") from error
    if twice := [call.output for call in calls if [other.output for other in calls].count(call.output) > 1]:
        raise InputError(f"{path}: two inputs of [{name}] are to be written to {twice[0]}; give one another name.")
    for call in calls:
        flags = [word for option, value in (options | (call.options or {})).items() for word in _flag(option, value)]
        words = (name, *map(str, call.inputs), str(call.output), *flags)
        yield Step(f"{name} {call.output.stem}" if len(calls) > 1 else name, words, call.last or call.output)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _ingest(made: _Made, options: Table) -> list[_Call]:
    return [_Call(_listed(options.pop("matrix")), made.folder / "expression.zarr")]


def _plant(made: _Made, options: Table) -> list[_Call]:
    calls = []
    for number, matrix in enumerate(_listed(options.pop("matrix"))):
        store = made.folder / "planted" / f"{Path(matrix).stem}.zarr"
        planted = numbered(store, options.get("stores", 1))
        made.planted += planted
        calls.append(_Call([matrix], store, {"seed": options.get("seed", 0) + number}, planted[-1]))  # draws of its own
    return calls


def _heatmaps(made: _Made, options: Table) -> list[_Call]:
    stores = _listed(options.pop("expression", made.planted or made.folder / "expression.zarr"))
    if len(stores) == 1:
        return [_Call(stores, made.folder / "images.zarr", _own_pairs(made, stores[0]))]
    made.images = [made.folder / "images" / Path(store).name for store in stores]
    return [_Call([store], images, _own_pairs(made, store)) for store, images in zip(stores, made.images, strict=True)]


def _own_pairs(made: _Made, store: Any) -> Table:
    """The list that lies beside a planted store."""
    return {"pairs": store.with_suffix(".tsv")} if store in made.planted else {}


def _train(made: _Made, options: Table) -> list[_Call]:
    if "test_stores" in options:
        options["test_stores"] = ",".join(map(str, _listed(options["test_stores"])))
    return [_Call(_listed(options.pop("images", made.images or made.folder / "images.zarr")), made.folder / "run")]


def _predict(made: _Made, options: Table) -> list[_Call]:
    inputs = [options.pop("run", made.folder / "run"), options.pop("expression", made.folder / "expression.zarr")]
    return [_Call(inputs, made.folder / "scores.parquet")]


def _export(made: _Made, options: Table) -> list[_Call]:
    inputs = [options.pop("scores", made.folder / "scores.parquet")]
    return [_Call(inputs, made.folder / expand_home(options.pop("file")))]


_LINES: dict[str, Callable[[_Made, Table], list[_Call]]] = {
    "ingest": _ingest,
    "plant": _plant,
    "heatmaps": _heatmaps,
    "train": _train,
    "predict": _predict,
    "export": _export,
}


def _flag(option: str, value: Any) -> list[str]:
    """An option as it is typed: true and false are switches, a list is the option several times."""
    name = option.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}={one}" for one in (value if isinstance(value, list) else [value])]


def step_digests(steps: list[Step]) -> list[str]:
    """What each step does and stands on: its words and those before it, and sizes and times of files of the user."""
    found, said = [], list[Any]()
    outputs = {step.output for step in steps}
    planted = {step.output.parent for step in steps if step.words[0] == "plant"}
    for step in steps:
        files = [Path(expand_home(word.split("=", 1)[-1])) for word in step.words[1:]]
        files = [file for file in files if file not in outputs and file.parent not in planted and file.is_file()]
        said += [step.words, [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]]
        found.append(digest({"steps": said}))
    return found


def is_done(folder: Path, step: Step, of: str) -> bool:
    """Whether this very step was finished before.

    Raises
    ------
    InputError
        Its output is there, and another job wrote it.
    """
    note = _note(folder, step)
    if not note or not step.output.exists():
        return False
    if note["digest"] != of:
        raise InputError(
            f"{step.output} was made with other options or from other files (pairscape {' '.join(note['words'])}), and "
            "would be taken for this job's; give another folder, or remove it."
        )
    return bool(note["done"])


def resumed(folder: Path, step: Step) -> tuple[str, ...]:
    """The words of a step that may have been interrupted: planting starts over, a training goes on in either case."""
    repeats = any(word.startswith(("--seeds=", "--folds=", "--split=file")) for word in step.words)
    begun = bool(_note(folder, step))
    anew = step.words[0] == "plant" or (step.words[0] == "train" and step.output.exists() and not repeats)
    return (*step.words, "--overwrite") if begun and anew else step.words


@contextmanager
def noted(folder: Path, step: Step, of: str) -> Iterator[None]:
    """Leave a note that a step has begun, and at its end that it is done; of a refused one that made nothing, none."""
    file, made = _note_file(folder, step), [path for path in (folder / ".steps", folder) if not path.exists()]
    note = {"digest": of, "done": False, "words": step.words}
    write_file(file, json.dumps(note, indent=2).encode())
    try:
        yield
    except InputError:
        if not step.output.exists():
            file.unlink()
            remove_empty(made)
        raise
    write_file(file, json.dumps(note | {"done": True}, indent=2).encode())


def _note_file(folder: Path, step: Step) -> Path:
    return folder / ".steps" / f"{step.name.replace(' ', '-')}.json"


def _note(folder: Path, step: Step) -> dict[str, Any]:
    try:
        note = json.loads(_note_file(folder, step).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) and {"digest", "done", "words"} <= note.keys() else {}
