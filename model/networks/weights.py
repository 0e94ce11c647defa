"""The files of a trained run: weights with their facts as safetensors (no pickle), the configuration as TOML.

Files are written aside and renamed. What is read is checked whole, and a refusal names the file.
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, get_args

import tomli_w
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pairscape.model.networks.prior import PriorCorrection
from pairscape.model.networks.published import NETWORKS
from pairscape.model.networks.render import CHANNELS
from pairscape.model.options import Recipe, Rendering, Splitting, Training
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.options import BinningRule
from pairscape.pipeline.storage.write import write_file

MODEL, FORMAT_VERSION = "pairscape-model", "1"
HEADER_SIZE_BYTES = 8  # of a safetensors file: the length of the JSON that follows


def write_text(path: Path, text: str) -> None:
    """Replace a file whole, never half."""
    write_file(path, text.encode(errors="surrogateescape"))  # a path may be in it that this locale cannot decode


def save_tensors(path: Path, kind: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors with facts in the file's own header; the same content is the same bytes."""
    header = {"format": kind, "format_version": FORMAT_VERSION, "facts": json.dumps(facts, sort_keys=True)}
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata=header)
    write_file(path, _sorted_header(content))


def _header(content: bytes) -> dict[str, Any]:
    size = int.from_bytes(content[:HEADER_SIZE_BYTES], "little")
    header: dict[str, Any] = json.loads(content[HEADER_SIZE_BYTES : HEADER_SIZE_BYTES + size])
    return header


def _sorted_header(content: bytes) -> bytes:
    """The same file with its header in order: safetensors writes the metadata in another order each time."""
    size = int.from_bytes(content[:HEADER_SIZE_BYTES], "little")
    text = json.dumps(_header(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    padded = text.ljust(-(-len(text) // HEADER_SIZE_BYTES) * HEADER_SIZE_BYTES)  # the weights stay aligned
    return len(padded).to_bytes(HEADER_SIZE_BYTES, "little") + padded + content[HEADER_SIZE_BYTES + size :]


class TensorFile(NamedTuple):
    """A file of tensors as `save_tensors` wrote it.

    Attributes
    ----------
    tensors
        By name.
    facts
        From its header.
    sha256
        Hex digest of the whole file.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    sha256: str


def load_weights(path: Path) -> TensorFile:
    """Weights and facts of a trained run; raises like `load_tensors`."""
    return load_tensors(path, MODEL)


def load_tensors(path: Path, kind: str) -> TensorFile:
    """Read a file of tensors, once.

    Raises
    ------
    InputError
        No such file, another kind of file, damaged, or of another version.
    """
    if not path.is_file():
        raise InputError(f"{path}: no trained weights there; give a folder that `pairscape train` made.")
    try:
        content = path.read_bytes()
        tensors = load(content)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as weights ({error}); train again, or copy the file again.") from error
    metadata = _header(content).get("__metadata__", {})
    if metadata.get("format") != kind or metadata.get("format_version") != FORMAT_VERSION:
        found = f"{metadata.get('format')} version {metadata.get('format_version')}"
        raise InputError(f"{path} is {found}, this Pairscape reads {kind} version {FORMAT_VERSION}; train again.")
    try:
        facts = json.loads(metadata["facts"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} has no readable facts in its header; train again, or copy the file again.") from error
    if not isinstance(facts, dict):
        raise InputError(f"{path} has {facts!r} where its facts should be; train again, or copy the file again.")
    return TensorFile(tensors, facts, hashlib.sha256(content).hexdigest())


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
    """A run's `config.toml` as tables.

    Raises
    ------
    InputError
        No such file, or not TOML.
    """
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


def trained_values(metrics: Mapping[str, Any] | None) -> str:
    """What kind of values a run was trained on, as `Expression.values`, by its metrics; "" where they do not say."""
    store = (metrics or {}).get("store")
    return str(store.get("values", "")) if isinstance(store, dict) else ""


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


# ---------------------------------------------------------------- the facts of a network

NETWORK_VERSION = 1
"""Raised when weights trained before would mean something else in an architecture, a rendering or a rule of binning."""

CLASSES = (2, 3, len(KINDS))
RENDERING_KINDS = {"channels": (str,), "pool": (int,), "sigma": (int, float), "drop_both_zero": (bool,)}


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """What a prediction has to know of a network beside its weights; in the header of `model.safetensors`.

    Attributes
    ----------
    network, network_version
        Architecture, one of `NETWORKS`, and `NETWORK_VERSION` when it was trained.
    rendering
        How counts become its input.
    bins, scale
        Bins of the images, and the rule of binning.
    n_cells
        Cells in every image of the training.
    classes, class_names
        Number of classes (2; 3 with direction; 7, the kinds of dependence), and what they are called, in the order of
        the labels.
    mirror
        Whether predictions are averaged with those of the transposed image.
    shown, natural
        Share of positives in the batches of the training, and among its pairs.
    loss_weights, gamma
        Weights of the classes in the loss, None: all alike; focus of the focal loss, 0 for another loss.
    epoch
        The epoch that the weights are of, from 0.

    Raises
    ------
    InputError
        A value is of another type, out of its range, or contradicts another.
    """

    network: str
    network_version: int = NETWORK_VERSION
    rendering: Rendering
    bins: int
    scale: BinningRule
    n_cells: int
    classes: int
    class_names: tuple[str, ...]
    mirror: bool
    shown: float
    natural: float
    loss_weights: tuple[float, ...] | None
    gamma: float
    epoch: int

    def __post_init__(self) -> None:
        rules, weights = get_args(BinningRule), self.loss_weights
        known = isinstance(self.network, str) and self.network in NETWORKS
        self._require(known, "network", f"a network that this Pairscape has ({', '.join(NETWORKS)})")
        current = type(self.network_version) is int and self.network_version == NETWORK_VERSION
        self._require(current, "network_version", f"{NETWORK_VERSION}, the version that this Pairscape has")
        self._require(isinstance(self.rendering, Rendering), "rendering", "a rendering that this Pairscape has")
        self._require(type(self.bins) is int and 2 <= self.bins <= 255, "bins", "a number of bins from 2 to 255")
        self._require(self.scale in rules, "scale", f"a rule of binning ({', '.join(rules)})")
        self._require(type(self.n_cells) is int and self.n_cells > 0, "n_cells", "a number of cells")
        self._require(type(self.classes) is int and self.classes in CLASSES, "classes", f"2, 3 or {len(KINDS)}")
        self._require(_all(self.class_names, lambda name: isinstance(name, str)), "class_names", "a list of names")
        kinds = self.classes != len(KINDS) or self.class_names == KINDS
        self._require(kinds, "class_names", f"the kinds of dependence that this Pairscape has ({', '.join(KINDS)})")
        self._require(isinstance(self.mirror, bool), "mirror", "true or false")
        self._require(is_share(self.shown) and 0 < self.shown < 1, "shown", "a share of positives between 0 and 1")
        self._require(is_share(self.natural), "natural", "a share of positives from 0 to 1")
        positive = weights is None or _all(weights, lambda weight: is_number(weight) and weight > 0)
        self._require(positive, "loss_weights", "weights above 0, or none")
        self._require(is_number(self.gamma) and self.gamma >= 0, "gamma", "the focus of a loss, 0 or more")
        self._require(type(self.epoch) is int and self.epoch >= 0, "epoch", "the number of an epoch")
        for name in ("class_names", "loss_weights"):
            if (entries := getattr(self, name)) is not None and len(entries) != self.classes:
                raise InputError(f"{name} has {len(entries)} entries for {self.classes} classes")

    def _require(self, good: bool, name: str, what: str) -> None:
        if not good:
            raise InputError(f"{name} is {getattr(self, name)!r}, not {what}")

    @classmethod
    def from_table(cls, table: Mapping[str, Any], path: Path) -> "NetworkFacts":
        """Check the facts in the header of a file.

        Raises
        ------
        InputError
            A fact is missing, or one is refused, with the name of the file.
        """
        if absent := [field.name for field in fields(cls) if field.name not in table]:
            raise InputError(f"{path} does not say its {absent[0]}, so it cannot be used; train again.")
        known = {field.name: table[field.name] for field in fields(cls)}
        known |= {name: _as_tuple(known[name]) for name in ("class_names", "loss_weights")}
        try:
            return cls(**known | {"rendering": _rendering(table["rendering"])})
        except InputError as error:
            raise InputError(f"{path}: {error}; use the Pairscape that wrote it, or train again.") from error

    def table(self) -> dict[str, Any]:
        """The same for JSON, sorted by name."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self), sort_keys=True))
        return found

    @property
    def correction(self) -> PriorCorrection:
        """What the training did to the probabilities."""
        return PriorCorrection(self.shown, self.loss_weights, self.gamma)


def save_weights(path: Path, state: dict[str, Tensor], facts: NetworkFacts) -> None:
    """Write weights with the facts that a prediction needs."""
    save_tensors(path, MODEL, state, facts.table())


def class_names(classes: int, directed: bool) -> tuple[str, ...]:
    """The classes in words, in the order of the labels."""
    if classes == len(KINDS):
        return KINDS
    if classes == 3:
        return ("none", "a → b", "b → a")
    return ("none", "a → b" if directed else "pair")


def _rendering(table: Any) -> Any:
    """The rendering of a table; the table itself where it is none, to be refused."""
    if not isinstance(table, dict) or any(type(v) not in RENDERING_KINDS.get(k, ()) for k, v in table.items()):
        return table
    try:
        made = Rendering(**table)
    except InputError:
        return table
    return made if made.channels in CHANNELS and math.isfinite(made.sigma) else table


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _all(values: Any, good: Any) -> bool:
    return isinstance(values, tuple) and all(map(good, values))


def is_share(value: Any) -> bool:
    """Whether it is a number from 0 to 1."""
    return is_number(value) and 0 <= value <= 1


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    return type(value) in (int, float) and math.isfinite(value)
