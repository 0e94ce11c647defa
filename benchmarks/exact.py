"""Every image of a demo's store against `np.histogram2d`, one pair at a time.

python -m benchmarks.exact [FOLDER]

Prints how many images were compared, how many differ (0), and how many do not sum to the number of cells (0).
"""

import sys
from pathlib import Path

import numpy as np

from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.matrix.expression import open_expression


def compare(folder: Path) -> dict[str, int]:
    """Count differences between `images.zarr` and the oracle on `expression.zarr`, over the cells that were counted."""
    images, cells = open_images(folder / "images.zarr"), open_codes(folder / "codes.zarr").array("cell")
    expression = open_expression(folder / "expression.zarr").select(cells).toarray()
    edges, pairs, spec = images.array("edges"), images.pairs(), images.spec
    found = {"images": spec.n_pairs, "differ": 0, "wrong_sum": 0}
    for shard in range(spec.n_shards):
        rows = spec.shard_rows(shard)
        counts = images.counts(slice(rows.start, rows.stop))
        found["wrong_sum"] += int((counts.sum(axis=(1, 2), dtype=np.int64) != spec.n_cells).sum())
        for row, image in zip(rows, counts, strict=True):
            a, b = int(pairs.gene_a[row]), int(pairs.gene_b[row])
            oracle = np.histogram2d(expression[:, a], expression[:, b], bins=(edges[a], edges[b]))[0].T
            found["differ"] += not np.array_equal(oracle, image)
    return found


if __name__ == "__main__":
    print(compare(Path(sys.argv[1] if len(sys.argv) > 1 else "data/demo")))
