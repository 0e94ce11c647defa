"""A trained run on disk: weights as safetensors (no pickle), configuration as TOML; written aside, then renamed."""

import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

import tomli_w
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pairscape.model.networks.prior import Taught
from pairscape.model.networks.published import NETWORKS
from pairscape.model.networks.render import CHANNELS
from pairscape.model.options import Recipe, Rendering, Splitting, Training
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import BinningRule
from pairscape.pipeline.storage.write import write_file

MODEL, FORMAT_VERSION = "pairscape-model", "1"
HEADER_SIZE_BYTES = 8  # of a safetensors file: the length of the JSON that follows


def write_text(path: Path, text: str) -> None:
    """Replace a file whole, never half."""
    write_file(path, text.encode())


def save_weights(path: Path, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write weights with the facts needed to use them (bins, classes, …) in the file's own header."""
    save_tensors(path, MODEL, state, facts)


def save_tensors(path: Path, kind: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors with facts in the file's own header; the same content is the same bytes."""
    header = {"format": kind, "format_version": FORMAT_VERSION, "facts": json.dumps(facts, sort_keys=True)}
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata=header)
    write_file(path, _sorted_header(content))


def _sorted_header(content: bytes) -> bytes:
    """The same file with its header in order: safetensors writes the metadata in another order each time."""
    size = int.from_bytes(content[:HEADER_SIZE_BYTES], "little")
    header = json.loads(content[HEADER_SIZE_BYTES : HEADER_SIZE_BYTES + size])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    padded = text.ljust(-(-len(text) // HEADER_SIZE_BYTES) * HEADER_SIZE_BYTES)  # the weights stay aligned
    return len(padded).to_bytes(HEADER_SIZE_BYTES, "little") + padded + content[HEADER_SIZE_BYTES + size :]


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and facts of a trained run.

    Raises
    ------
    InputError
        No such file, not ours, damaged, or of another version.
    """
    return load_tensors(path, MODEL)


def load_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts as `save_tensors` wrote them; see `load_weights` for what is raised."""
    if not path.is_file():
        raise InputError(f"{path}: no trained weights there; give a folder that `pairscape train` made.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as weights ({error}); train again, or copy the file again.") from error
    if header.get("format") != kind or header.get("format_version") != FORMAT_VERSION:
        found = f"{header.get('format')} version {header.get('format_version')}"
        raise InputError(f"{path} is {found}, this Pairscape reads {kind} version {FORMAT_VERSION}; train again.")
    try:
        facts = json.loads(header["facts"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} has no readable facts in its header; train again, or copy the file again.") from error
    if not isinstance(facts, dict):
        raise InputError(f"{path} has {facts!r} where its facts should be; train again, or copy the file again.")
    return tensors, facts


def write_config(
    path: Path, recipe: Recipe, store: dict[str, Any], seed: int, seeds: Sequence[int] | None = None
) -> None:
    """The whole configuration of a run as TOML; what is unset is left out. `seeds`: of all repeats, where there are."""
    repeated = {} if seeds is None else {"seeds": list(seeds)}
    tables = {name: _set_values(getattr(recipe, name)) for name in ("rendering", "splitting", "training")}
    write_text(path, tomli_w.dumps({"seed": seed, **repeated, **tables, "store": store}))


def _set_values(config: Any) -> dict[str, Any]:
    return {key: _plain(value) for key, value in asdict(config).items() if value is not None}


def _plain(value: Any) -> Any:
    """A value as TOML knows it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def read_config(path: Path) -> dict[str, Any]:
    """A run's `config.toml` as tables; see `read_recipe` for what is raised."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file; give a folder that `pairscape train` made.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML ({error}); restore it or train again.") from error


def read_metrics(run: Path) -> dict[str, Any] | None:
    """A run's `metrics.json`; None where there is none.

    Raises
    ------
    InputError
        It is damaged.
    """
    path = run / "metrics.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); restore it, or remove it.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {str(found)[:40]!r}, not the figures of a run; restore it, or remove it.")
    return found


def read_recipe(path: Path) -> tuple[Recipe, int]:
    """Recipe and seed of a run's `config.toml`.

    Raises
    ------
    InputError
        No such file, not TOML, a name that is no option, or a value of another kind.
    """
    config = read_config(path)
    parts = {"rendering": Rendering, "splitting": Splitting, "training": Training}
    made = {name: _from_table(kind, config.get(name, {}), path) for name, kind in parts.items()}
    seed = config.get("seed", 0)
    if not isinstance(seed, int):
        raise InputError(f"{path}: seed is {seed!r}, not a whole number; correct it.")
    return Recipe(**made), seed


def _from_table(kind: type[Any], table: Any, path: Path) -> Any:
    if not isinstance(table, dict):
        raise InputError(f"{path}: {kind.__name__.lower()} is {table!r}, not a table of options; correct it.")
    unknown = sorted(set(table) - {field.name for field in fields(kind)})
    if unknown:
        raise InputError(f"{path}: {unknown[0]!r} is no option of {kind.__name__.lower()}; correct or remove it.")
    try:
        return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in table.items()})
    except TypeError as error:
        raise InputError(f"{path}: an option of {kind.__name__.lower()} is of the wrong kind ({error}).") from error


def refuse_repeats(run: Path) -> None:
    """Refuse a folder of several networks where one is needed.

    Raises
    ------
    InputError
        It is one.
    """
    repeats = sorted(run.glob("*/model.safetensors"))
    if repeats and not (run / "model.safetensors").exists():
        raise InputError(
            f"{run} holds {len(repeats)} repeats, each a network of its own; give one of them, such as "
            f"{repeats[0].parent}."
        )


# The facts in `model.safetensors` that a prediction needs beside the weights, and what is refused of them.
#
# A run from before all of them were kept is completed from its `config.toml` and `metrics.json`.

NETWORK_VERSION = 1
"""Raised when weights trained before would mean something else in an architecture, a rendering or a rule of binning."""

LATER = ("network_version", "scale", "class_names", "natural", "loss_weights", "gamma")  # absent from early runs


def class_names(classes: int, directed: bool) -> list[str]:
    """The classes in words, in the order of the labels."""
    if classes == 3:
        return ["none", "a → b", "b → a"]
    return ["none", "a → b" if directed else "pair"]


def complete_facts(stored: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The facts of a run, checked.

    Returns
    -------
    dict
        `network`, `network_version`, `rendering`, `bins`, `scale`, `classes`, `class_names`, `mirror`, `shown`,
        `natural` (None where an early run did not record it), `loss_weights`, `gamma`; and whatever else was stored.

    Raises
    ------
    InputError
        A fact is missing and cannot be completed, is none that this Pairscape knows, or contradicts another.
    """
    facts = dict(stored)
    path = run / "model.safetensors"
    absent = [name for name in KINDS if name not in facts and name not in LATER]
    if absent:
        raise InputError(f"{path} does not say its {absent[0]}, so it cannot be used; train again.")
    _check_kinds(facts, path)
    if any(name not in facts for name in LATER):
        facts = _of_early_run(facts, run) | facts
        _check_kinds(facts, run / "config.toml")
    _check_agreement(facts, path)
    return facts


def _check_kinds(facts: Mapping[str, Any], path: Path) -> None:
    for name, (good, what) in KINDS.items():
        if name in facts and not good(facts[name]):
            raise InputError(f"{path}: {name} is {facts[name]!r}, not {what}; use the Pairscape that wrote it.")


def _of_early_run(facts: Mapping[str, Any], run: Path) -> dict[str, Any]:
    recipe, _ = read_recipe(run / "config.toml")
    store = read_config(run / "config.toml").get("store")
    scale = store.get("scale") if isinstance(store, dict) else None
    taught = Taught.by(recipe.training, facts["shown"], facts["classes"]).facts()
    names = class_names(facts["classes"], directed=not facts["mirror"])
    return {"network_version": 1, "scale": scale, "class_names": names, "natural": _natural(run), **taught}


def _natural(run: Path) -> float | None:
    """Share of positives in the training pairs, as `metrics.json` has it."""
    metrics = read_metrics(run) or {}
    calibration = metrics.get("calibration", {})
    found = calibration.get("natural", metrics.get("prevalence")) if isinstance(calibration, dict) else calibration
    if found is None or is_share(found):
        return found
    raise InputError(
        f"{run / 'metrics.json'}: the share of edges in training is {found!r}, not a share from 0 to 1; restore the "
        "file, or remove it and give --prior."
    )


def is_share(value: Any) -> bool:
    """Whether it is a number from 0 to 1."""
    return _is_number(value) and 0 <= value <= 1


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_rendering(value: Any) -> bool:
    """Whether every option is one that `Rendering` takes, of its own type."""
    if not isinstance(value, dict) or set(value) - {field.name for field in fields(Rendering)}:
        return False
    drawn = {**asdict(Rendering()), **value}
    return (
        isinstance(drawn["channels"], str)
        and drawn["channels"] in CHANNELS
        and type(drawn["pool"]) is int
        and drawn["pool"] >= 1
        and _is_number(drawn["sigma"])
        and drawn["sigma"] >= 0
        and isinstance(drawn["drop_both_zero"], bool)
    )


def _are_weights(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(_is_number(weight) and weight > 0 for weight in value))


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "network": (
        lambda v: isinstance(v, str) and v in NETWORKS,
        f"a network that this Pairscape has ({', '.join(NETWORKS)})",
    ),
    "network_version": (
        lambda v: type(v) is int and v == NETWORK_VERSION,
        f"{NETWORK_VERSION}, the version that this Pairscape has",
    ),
    "rendering": (_is_rendering, "a rendering that this Pairscape has"),
    "bins": (lambda v: type(v) is int and 2 <= v <= 255, "a number of bins from 2 to 255"),
    "scale": (lambda v: v in get_args(BinningRule), f"a rule of binning ({', '.join(get_args(BinningRule))})"),
    "classes": (lambda v: type(v) is int and v in (2, 3), "2 or 3"),
    "class_names": (lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v), "a list of names"),
    "mirror": (lambda v: isinstance(v, bool), "true or false"),
    "shown": (lambda v: is_share(v) and 0 < v < 1, "a share of positives between 0 and 1"),
    "natural": (lambda v: v is None or is_share(v), "a share of positives from 0 to 1"),
    "loss_weights": (_are_weights, "weights above 0, or none"),
    "gamma": (lambda v: _is_number(v) and v >= 0, "the focus of a loss, 0 or more"),
}


def _check_agreement(facts: Mapping[str, Any], path: Path) -> None:
    for name in ("class_names", "loss_weights"):
        if facts[name] is not None and len(facts[name]) != facts["classes"]:
            raise InputError(
                f"{path}: {name} has {len(facts[name])} entries for {facts['classes']} classes; the file was changed "
                "by hand: copy it again, or train again."
            )


NETWORK_FILES = ("model.safetensors", "config.toml")  # what decides a score besides the counts and the prior


def network_hash(run: Path) -> str:
    """Hex sha256 of what decides a network's scores."""
    total = hashlib.sha256()
    for name in NETWORK_FILES:
        total.update(hashlib.sha256((run / name).read_bytes()).digest())
    return total.hexdigest()
