"""Label sources by name: known networks that decoupler serves, each taken as a dated snapshot beside the images.

A source on the internet changes, and the same command must give the same images: what was downloaded is kept as
`IMAGES.SOURCE_ORGANISM.csv` (source, target, weight) and, beside it, a `.json` that says what it is. Whoever runs the
same command again gets the snapshot. `PAIRSCAPE_DATA/networks/SOURCE_ORGANISM.csv` serves without internet access.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pairscape.pipeline.datasets.fetch import VARIABLE, offline_folder
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.genes.lists import read_network
from pairscape.pipeline.options import PairSource
from pairscape.pipeline.storage.write import remove_empty, replaced, write_file

FORMAT = "pairscape-network"
COLUMNS = ["source", "target", "weight"]


@dataclass(frozen=True)
class Prior:
    """A label source that decoupler serves.

    Attributes
    ----------
    licence, citation
        In words, as its makers state them.
    """

    licence: str
    citation: str


PRIORS = {
    "collectri": Prior(
        "freely available; the licences of the twelve resources that it is compiled from hold",
        "Müller-Dott et al., Nucleic Acids Research 51:10934 (2023), doi:10.5281/zenodo.8192729",
    ),
    "dorothea": Prior(
        "academic use only: it holds resources whose licences exclude commercial use",
        "Garcia-Alonso et al., Genome Research 29:1363 (2019), doi:10.1101/gr.240663.118; levels A to C",
    ),
}


@contextmanager
def with_network(source: PairSource, images: Path | None) -> Iterator[tuple[PairSource, tuple[str, ...]]]:
    """A source whose network, if it is a name, is the file of its snapshot; and in words, what was taken.

    Parameters
    ----------
    images
        The snapshot is kept beside this store, and taken from there if it is there. If the body refuses its input, a
        new snapshot is removed again. None: it is kept only as long as the body runs.

    Raises
    ------
    InputError
        Neither a file nor a known name; an organism for a file; decoupler is not installed; a damaged snapshot.
    JobError
        The source cannot be downloaded, or the disk refuses.
    """
    network = source.network and Path(source.network)
    if network is None or network.exists():
        if source.organism is not None:
            raise InputError(
                f"{network} is a file and names the genes as it does; --organism belongs to a label source by name "
                f"({', '.join(PRIORS)}): leave it out."
            )
        yield source, ()
        return
    if str(network) not in PRIORS:
        raise InputError(f"{network}: no such file, and no label source of that name ({', '.join(PRIORS)}).")
    name = f"{network}_{source.organism or 'human'}.csv"
    if images is None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            _take(path, str(network), source.organism or "human")
            yield replace(source, network=path), (_words(path, source),)
    else:
        path = images.with_name(f"{images.stem}.{name}")
        with _kept(path, str(network), source.organism or "human"):
            yield replace(source, network=path), (_words(path, source),)


@contextmanager
def _kept(path: Path, name: str, organism: str) -> Iterator[None]:
    """A snapshot at its place; a new one goes again where the input is refused."""
    if path.exists():
        _require_whole(path)
        yield
        return
    made = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        _take(path, name, organism)
        yield
    except InputError:
        for file in (path, path.with_suffix(".json")):
            file.unlink(missing_ok=True)
        remove_empty(made)
        raise


def network_facts(path: Path) -> dict[str, Any]:
    """What a store keeps of the network that labelled it: path, sha256, and of a snapshot all that is known of it."""
    found = {"path": str(path), "sha256": _sha256(path)}
    known = _facts(path)
    return {**known, **found} if known.get("sha256") == found["sha256"] else found


def _take(path: Path, name: str, organism: str) -> None:
    """Write a new snapshot; the table comes last, so that a killed run leaves none that counts."""
    folder = offline_folder()
    served = None if folder is None else folder / "networks" / f"{name}_{organism}.csv"
    try:
        with replaced(path) as part:
            if served is not None and served.is_file():
                facts = _served(served)
                shutil.copyfile(served, part)
            else:
                facts = {"from": f"decoupler {_download(name, organism, part)}", "date": _today()}
                facts["edges"] = len(read_network(part).gene_a)
            facts |= {"format": FORMAT, "source": name, "organism": organism, "sha256": _sha256(part)}
            facts |= asdict(PRIORS[name])
            write_file(path.with_suffix(".json"), f"{json.dumps(facts, indent=2)}\n".encode())
    except OSError as error:
        reason = error.strerror or error
        raise JobError(f"{path} cannot be written ({reason}): free some space, or write elsewhere.") from error


def _served(served: Path) -> dict[str, Any]:
    """Of a network of `PAIRSCAPE_DATA`: edges, and when it was taken from what, as far as a note beside it tells."""
    edges, known = len(read_network(served).gene_a), _facts(served)
    if known:
        _require_whole(served)
    return {"from": known.get("from", VARIABLE), "date": known.get("date", _today()), "edges": edges}


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def _download(name: str, organism: str, path: Path) -> str:
    """Write a network as decoupler gives it today, in the order of its names; returns decoupler's version."""
    load = getattr(_decoupler().op, name)
    try:
        edges = load(organism=organism, verbose=False)[COLUMNS].dropna().sort_values(COLUMNS)
    except (OSError, KeyError, ValueError) as error:  # no connection; a page in place of a table
        raise JobError(
            f"{name} cannot be downloaded ({type(error).__name__}: {str(error)[:200]}). Without internet access put a "
            f"table source,target,weight at {VARIABLE}/networks/{name}_{organism}.csv, set {VARIABLE} to that folder, "
            "or give it as --network FILE."
        ) from error
    edges.drop_duplicates(COLUMNS[:2]).to_csv(path, index=False, lineterminator="\n")
    return version("decoupler")


def _decoupler() -> Any:
    """The library, which is large and wanted by few."""
    try:
        library = import_module("decoupler")
    except ImportError as error:
        raise InputError(
            "a network by name is loaded through decoupler, which is not installed: pip install 'pairscape[labels]', "
            "or give --network FILE."
        ) from error
    if not hasattr(library, "op"):
        raise InputError("decoupler is older than 2 and has another interface: pip install --upgrade 'decoupler>=2'.")
    return library


def _require_whole(path: Path) -> None:
    known = _facts(path)
    if known.get("sha256") != _sha256(path):
        raise InputError(
            f"{path} is not what {path.with_suffix('.json').name} beside it says: it was changed or is no snapshot; "
            "restore it, remove it for a new one, or give it as --network FILE."
        )


def _facts(path: Path) -> dict[str, Any]:
    """What the note beside a snapshot says; empty where there is none."""
    try:
        known = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and known.get("format") == FORMAT else {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _words(path: Path, source: PairSource) -> str:
    known = _facts(path)
    chosen = "" if source.organism else ", as --organism is not given"
    return (
        f"{known['source']} ({known['organism']}{chosen}): {known['edges']:,} edges, snapshot of {known['date']} from "
        f"{known['from']} in {path.name}; {known['licence']}; cite {known['citation']}"
    )
