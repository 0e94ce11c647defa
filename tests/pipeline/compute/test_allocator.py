"""The allocator keeps what was freed: the same chunk, compressed again and again, takes no new page of memory."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FAULTS = """
import resource, sys
import numpy as np
from pairscape.pipeline.heatmaps.shards import CODEC
from pairscape.pipeline.compute.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
chunk = np.random.default_rng(0).poisson(1, (256, 32, 32)).astype(np.uint32)
CODEC.encode(chunk)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    CODEC.encode(chunk)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how):
    """Of 20 chunks in a fresh process, started as Dask starts its workers."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], cwd=ROOT, env={"MALLOC_TRIM_THRESHOLD_": "65536"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_kept():
    assert page_faults("keep") < 200 < page_faults("as Dask has it")
