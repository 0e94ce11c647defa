"""The heatmap job as tests run it, and the bytes of the store that it made."""

import hashlib
import json

from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.heatmaps.job import make_heatmaps, resolve_request
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, Compute, Grouping, PairSource

HERE = Compute("synchronous")
ALL = PairSource(all_pairs=True)


def store_hash(path):
    """sha256 over names and bytes of all files of an image store, receipts and metadata included.

    Only where the codes lie is left out: it is the one fact that may differ between two runs of a job.
    """
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        content = file.read_bytes()
        if file == path / "zarr.json":
            metadata = json.loads(content)
            del metadata["attributes"]["spec"]["codes"]
            content = json.dumps(metadata).encode()
        total.update(f"{file.relative_to(path)}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def contents(folder):
    """Every file below a folder with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(path, target, *, source=ALL, binning=Binning("max", 16), codes=None, session=None, by=None, least=2):
    """The heatmap job on an expression store, as the front door calls it."""
    expression = open_expression(path)
    grouping = Grouping() if by is None else Grouping(by, least)
    request = resolve_request(expression, source, 0, grouping)
    return make_heatmaps(expression, target, codes, request, binning, session or Session())


FINE = Binning("rank", 130)  # 256 images a shard, so that 1,035 pairs are 5 shards; workers know no patched constants
