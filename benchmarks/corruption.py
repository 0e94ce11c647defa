"""Random corruptions of stores: how many are found, and how many are repaired to the byte.

python -m benchmarks.corruption [--times 100] [--seed 0]

Makes an image store of 47 shards and its codes, and harms one or the other so many times: bits flipped in any of their
files, files cut off, emptied, filled with garbage or deleted, two sound shards exchanged (with and without their
receipts), receipts edited. Each time `verify` looks, `--repair` repairs, and every byte is compared with what it was.
Between, the trainer's reader is let loose on the damaged store, and has to refuse or to read what is right. Prints
JSON: by kind of damage, how many were done, found, repaired, and read wrong in silence.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

import pairscape
from pairscape.pipeline import options
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.datasets.designs import Atlas
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.read import read_images
from pairscape.pipeline.heatmaps.repair import repair_store
from pairscape.pipeline.heatmaps.verify import verify_store
from pairscape.pipeline.options import Binning, Compute, PairSource

HERE = Compute("synchronous")
SHARD_PAIRS = 256  # of a small store, so that it has many shards
GENES = 155
Random = np.random.Generator


@contextmanager
def small_shards() -> Iterator[None]:
    """Stores of small shards, in this process."""
    with patch.object(options, "SHARD_PAIRS", SHARD_PAIRS):
        yield


def prepare(folder: Path, genes: int = GENES, cells: int = 300) -> None:
    """A matrix, its codes and the images of all pairs."""
    pairscape.simulate(folder / "e.zarr", atlas=Atlas(cells, genes, 0.2, 3), compute=HERE, counts=False, quiet=True)
    source, binning = PairSource(all_pairs=True), Binning("rank", 16)
    pairscape.heatmaps(folder / "e.zarr", folder / "i.zarr", source=source, binning=binning, compute=HERE, quiet=True)


def contents(store: Path) -> dict[str, str]:
    """sha256 of every file of a store."""
    files = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def any_file(store: Path, rng: Random) -> Path:
    """A file of a random one of the store's folders, so that small arrays are hit as often as shards."""
    folders = sorted({path.parent for path in store.rglob("*") if path.is_file() and path.stat().st_size})
    names = sorted(path for path in folders[rng.integers(len(folders))].iterdir() if path.is_file())
    return names[rng.integers(len(names))]


def flip(store: Path, rng: Random) -> None:
    """One bit. Where the codes lie is no content, and may be said in other words."""
    path = any_file(store, rng)
    content = bytearray(path.read_bytes())
    start, stop = _free_bytes(store, path, content)
    places = [at for at in range(len(content)) if not start <= at < stop] if len(content) < 20_000 else len(content)
    content[int(rng.choice(places))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def _free_bytes(store: Path, path: Path, content: bytearray) -> tuple[int, int]:
    """The bytes that tell where the codes, or the matrix, lie."""
    if path != store / "zarr.json":
        return 0, 0
    word, end = (b'"codes": "', b'"') if (store / "counts").is_dir() else (b'"provenance": {', b"}")
    start = content.index(word) + len(word)
    return start, content.index(end, start)


def cut(store: Path, rng: Random) -> None:
    """Only the beginning is left."""
    path = any_file(store, rng)
    path.write_bytes(path.read_bytes()[: rng.integers(1, max(path.stat().st_size, 2))])


def empty(store: Path, rng: Random) -> None:
    """Zero bytes."""
    any_file(store, rng).write_bytes(b"")


def garbage(store: Path, rng: Random) -> None:
    """Random bytes, as many as there were."""
    path = any_file(store, rng)
    path.write_bytes(rng.bytes(max(path.stat().st_size, 1)))


def delete(store: Path, rng: Random) -> None:
    """No file."""
    any_file(store, rng).unlink()


def exchange(store: Path, rng: Random) -> None:
    """Two shards of images, each sound by itself; in half of the cases their receipts too. Of codes: two files."""
    if not (store / "counts").is_dir():
        names = sorted(path for path in store.rglob("*") if path.is_file())
        _swap(*rng.choice(np.array(names, object), 2, replace=False))
        return
    a, b = rng.choice(open_images(store, complete=False).spec.n_shards, 2, replace=False)
    files = ["counts/c/{}/0/0", "both_zero/c/{}"] + ["receipts/{}.json"] * int(rng.integers(2))
    for name in files:
        _swap(store / name.format(a), store / name.format(b))


def _swap(first: Path, second: Path) -> None:
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def edit(store: Path, rng: Random) -> None:
    """A receipt, or the record of the small files, says something else, or more."""
    receipts = sorted(path for path in (store / "receipts").glob("*.json") if path.name != "zarr.json")
    path = receipts[rng.integers(len(receipts))]
    facts = json.loads(path.read_bytes())
    name = str(rng.choice([*facts, "note"]))
    path.write_text(json.dumps({**facts, name: int(rng.integers(1000))}))


KINDS: tuple[Callable[[Path, Random], None], ...] = (flip, flip, cut, empty, garbage, delete, exchange, edit)


def read_wrong(store: Path, rows: Any, truth: Any) -> bool:
    """Whether the trainer's way of reading gives other images, pairs or labels without a word."""
    try:
        images = open_images(store)
        read = (*read_images(images, rows), images.array("gene_a"), images.array("gene_b"), images.array("label"))
    except (InputError, JobError):
        return False
    return not all(np.array_equal(a, b) for a, b in zip(read, truth, strict=True))


def measure(folder: Path, times: int, seed: int = 0, genes: int = GENES) -> dict[str, Any]:
    """Harm, look, repair, compare; so many times."""
    rng = np.random.default_rng(seed)
    with small_shards():
        prepare(folder, genes)
        images, codes = folder / "i.zarr", folder / "i.codes.zarr"
        before = {store: contents(store) for store in (images, codes)}
        rows = np.arange(open_images(images).spec.n_pairs)
        truth = (
            *read_images(open_images(images), rows),
            *(open_images(images).array(n) for n in ("gene_a", "gene_b", "label")),
        )
        kinds = {kind.__name__: dict.fromkeys(("done", "found", "repaired", "read_wrong"), 0) for kind in KINDS}
        for number in range(times):
            kind, store = KINDS[number % len(KINDS)], codes if number % 5 == 4 else images
            tally = kinds[kind.__name__]
            while contents(store) == before[store]:  # files of the same bytes may have been exchanged
                kind(store, rng)
            tally["done"] += 1
            tally["read_wrong"] += store == images and read_wrong(store, rows, truth)
            tally["found"] += bool(verify_store(store, Session()).lines())
            repair_store(store, None, None, Session())
            tally["repaired"] += contents(store) == before[store]
        total = {
            name: sum(tally[name] for tally in kinds.values()) for name in ("done", "found", "repaired", "read_wrong")
        }
    return {"shards": -(-rows.size // SHARD_PAIRS), **total, "by_kind": kinds}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    with TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), a.times, a.seed)))


if __name__ == "__main__":
    main()
