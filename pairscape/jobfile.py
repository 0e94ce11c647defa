"""A whole job in one TOML file: its steps as command lines, and a note in the folder of each step that is done.

| table | reads | writes |
|---|---|---|
| `[ingest]` | `matrix`, one or a list | FOLDER/expression.zarr |
| `[heatmaps]` | that, or the `expression` of the table | FOLDER/images.zarr |
| `[train]` | the images, or the `images` of the table | FOLDER/run |
| `[predict]` | that run, or `run`; the `expression` of the table, or the one above | FOLDER/scores.parquet |
| `[export]` | the scores, or `scores` | FOLDER/`file` |

Every other name in a table is the option of that name, with `_` or `-`. At the top stand `folder`, and options that all
steps share.
"""

import json
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import expand_home
from pairscape.pipeline.storage.digests import digest
from pairscape.pipeline.storage.plain_files import check_plain_file
from pairscape.pipeline.storage.write import remove_empty, write_file

ON_DASK = ("ingest", "heatmaps", "predict")
SHARED = {
    "seed": ("heatmaps", "train", "predict"),
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
        Of the command.
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
    steps = []
    for name in _LINES:
        if name in tables:
            given = {option: value for option, value in shared.items() if name in SHARED[option]}
            steps.append(_step(path, name, Path(expand_home(folder)), given | _underscored(tables[name])))
    return Path(expand_home(folder)), steps


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


def _step(path: Path, name: str, folder: Path, options: Table) -> Step:
    try:
        inputs, output = _LINES[name](folder, options)
    except KeyError as error:
        raise InputError(f"{path}: [{name}] lacks {error.args[0]}, which it cannot do without; add it.") from error
    flags = [word for option, value in options.items() for word in _flag(option, value)]
    return Step(name, (name, *map(str, inputs), str(output), *flags), output)


def _ingest(folder: Path, options: Table) -> tuple[list[Any], Path]:
    matrix = options.pop("matrix")
    return matrix if isinstance(matrix, list) else [matrix], folder / "expression.zarr"


def _heatmaps(folder: Path, options: Table) -> tuple[list[Any], Path]:
    return [options.pop("expression", folder / "expression.zarr")], folder / "images.zarr"


def _train(folder: Path, options: Table) -> tuple[list[Any], Path]:
    images = options.pop("images", folder / "images.zarr")
    return images if isinstance(images, list) else [images], folder / "run"


def _predict(folder: Path, options: Table) -> tuple[list[Any], Path]:
    run = options.pop("run", folder / "run")
    return [run, options.pop("expression", folder / "expression.zarr")], folder / "scores.parquet"


def _export(folder: Path, options: Table) -> tuple[list[Any], Path]:
    return [options.pop("scores", folder / "scores.parquet")], folder / expand_home(options.pop("file"))


_LINES: dict[str, Callable[[Path, Table], tuple[list[Any], Path]]] = {
    "ingest": _ingest,
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
    """What each step does and stands on: its words and those before it, and sizes and times of the files they name."""
    found, said = [], list[Any]()
    for step in steps:
        files = [Path(expand_home(word.split("=", 1)[-1])) for word in step.words[1:]]
        stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
        said += [step.words, [stat for stat in stats if stat[0] != str(step.output)]]
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
    """The words of a step that may have been interrupted: a single training cannot go on, so it starts over."""
    repeats = any(word.startswith(("--seeds=", "--folds=", "--split=file")) for word in step.words)
    begun = bool(_note(folder, step)) and step.output.exists()
    return (*step.words, "--overwrite") if begun and step.name == "train" and not repeats else step.words


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
    return folder / ".steps" / f"{step.name}.json"


def _note(folder: Path, step: Step) -> dict[str, Any]:
    try:
        note = json.loads(_note_file(folder, step).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) and {"digest", "done", "words"} <= note.keys() else {}
