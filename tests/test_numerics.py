"""Numbers hold on other processors too: tests that round are run again as older ones would round.

What is promised: integers, and everything that only counts, are the same on every machine. Floats are the same to the
bit on one machine and for one composition of batches; on another processor or with another BLAS library expression
may differ in the last bit, and scores by 1e-5.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

HERE = Path(__file__).parent
TESTS = [
    "pipeline/matrix/test_normalize.py",
    "pipeline/codes/test_binning.py",
    "model/networks/test_fast.py",
    "model/networks/test_render.py",
    "model/evaluation/test_calibration.py",
]
FOUND = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
PROCESSORS = {
    "without vectors beyond the oldest": {
        "NPY_DISABLE_CPU_FEATURES": " ".join(FOUND), "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
    "with AVX2": {
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in FOUND if name not in ("X86_V3", "AVX2", "FMA3")),
        "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "OPENBLAS_CORETYPE": "Haswell",
    },
}  # fmt: skip


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="settings of x86-64 processors")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_numbers_hold_as_another_processor_rounds(processor):
    if processor == "with AVX2" and not {"X86_V3", "AVX2"} & set(FOUND):
        pytest.skip("this processor has no AVX2")
    settings = {name: value for name, value in PROCESSORS[processor].items() if value}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *TESTS]
    done = subprocess.run(command, cwd=HERE, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
