"""What a chunk of images costs to compress and to read back, by codec, on many sparse and on few dense cells.

python -m benchmarks.codecs

Prints a line for each codec and kind of cells: microseconds and bytes per image, medians of rounds that take turns, one
thread. Then what the allocator costs: compressing as Dask starts its workers, and with `pipeline.compute.allocator`.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from numcodecs import Blosc, blosc

from benchmarks.kernel import BINS, GENES_A, GENES_B, dense_codes, medians, simulate
from pairscape.pipeline.heatmaps.gene_cells import GeneCells
from pairscape.pipeline.heatmaps.kernel import GeneBlock, Margins, finish
from pairscape.pipeline.options import CHUNK_PAIRS

SHUFFLES = {"byte shuffle": Blosc.SHUFFLE, "bit shuffle": Blosc.BITSHUFFLE}
ALLOCATOR = """
import sys, time
import numpy as np
from pairscape.pipeline.heatmaps.shards import CODEC
from pairscape.pipeline.compute.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
chunk = np.random.default_rng(0).poisson(0.1, (256, 32, 32)).astype(np.uint32)
times = []
for _ in range(100):
    started = time.perf_counter()
    CODEC.encode(chunk)
    times.append(time.perf_counter() - started)
print(1e6 * sorted(times)[50] / 256)
"""


def images(cells: int, scale: float, genes_a: int = 16) -> np.ndarray:
    """Finished images of a simulated matrix: (P, 32, 32) uint32."""
    codes = dense_codes(simulate(cells, GENES_A + GENES_B, scale))
    a, b = GeneCells.from_codes(codes[:genes_a]), GeneCells.from_codes(codes[GENES_A:])
    first, member = np.arange(genes_a + 1) * GENES_B, np.tile(np.arange(GENES_B), genes_a)
    counts = np.empty((genes_a * GENES_B, BINS, BINS), np.uint32)
    GeneBlock.lay_out(b, BINS).count(a, first, member, counts, add=False)
    margins = [Margins(g.margins(BINS), np.zeros(g.start.size - 1, np.int64)) for g in (a, b)]
    finish(counts, np.repeat(np.arange(genes_a), GENES_B), member, *margins, cells)
    return counts


def compare(counts: np.ndarray) -> list[tuple[str, float, float, float]]:
    """Codec, µs to compress and to decompress an image, bytes of an image."""
    blosc.use_threads = False
    chunks = [counts[at : at + CHUNK_PAIRS] for at in range(0, len(counts), CHUNK_PAIRS)]
    works, sizes, out = {}, {}, np.empty_like(chunks[0])
    for name, level, shuffle, block in [
        *((name, 1, shuffle, 2**19) for name in ("zstd", "lz4") for shuffle in SHUFFLES),
        *(("zstd", level, shuffle, block) for level, block in ((2, 2**19), (3, 2**19), (3, 0)) for shuffle in SHUFFLES),
    ]:
        codec, key = Blosc(name, level, SHUFFLES[shuffle], block), f"{name} {level}, {shuffle}, block {block or 'auto'}"
        packed = [codec.encode(chunk) for chunk in chunks]
        works[f"encode {key}"] = lambda codec=codec: [codec.encode(chunk) for chunk in chunks]
        works[f"decode {key}"] = lambda codec=codec, packed=packed: [codec.decode(part, out=out) for part in packed]
        sizes[key] = sum(map(len, packed)) / len(counts)
    spent = {name: 1e6 * seconds / len(counts) for name, seconds in medians(works).items()}
    return [(key, spent[f"encode {key}"], spent[f"decode {key}"], size) for key, size in sizes.items()]


def allocator_us(how: str) -> float:
    """µs to compress an image in a process that was started as Dask starts its workers."""
    run = [sys.executable, "-c", ALLOCATOR, how]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        run, cwd=root, env={"MALLOC_TRIM_THRESHOLD_": "65536"}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """Print the table."""
    for cells, scale in ((100_000, 1.0), (383, 140.0)):
        for codec, encode, decode, size in compare(images(cells, scale)):
            print(f"{cells:>7,} cells  {codec:<36} {encode:6.2f} µs  {decode:5.2f} µs  {size:6.1f} bytes", flush=True)
    print(f"allocator as Dask has it {allocator_us('as is'):.2f} µs, freed memory kept {allocator_us('kept'):.2f} µs")


if __name__ == "__main__":
    main()
