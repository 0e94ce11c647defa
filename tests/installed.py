"""Try an installation as a newcomer does, in an empty folder: `python tests/installed.py [MATRIX]`.

The demonstration, a prediction with the bundled network on MATRIX (absent: on the demonstration's cells), and the
explorer, which has to answer. It needs the installed package alone; it prints the seconds that each step took, and
ends with status 1 at the first that fails.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PAIRSCAPE = Path(sys.executable).with_name("pairscape")
REGULATORS = ("CD79A", "MS4A1", "CD3D")


def main() -> None:
    matrix = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        timed("version", lambda: pairscape("--version"))
        timed("demo", lambda: pairscape("demo", "demo", "--quiet"))
        matrix = matrix or Path("demo/expression.zarr").absolute()
        Path("regulators.txt").write_text("\n".join(REGULATORS), encoding="utf-8")
        words = ("--regulators", "regulators.txt", "--min-matched", "0", "--quiet")
        timed("predict", lambda: pairscape("predict", "universal", str(matrix), "scores.parquet", *words))
        timed("browse", browse)


def timed(what, step) -> None:
    started = time.perf_counter()
    step()
    print(f"{what}: {time.perf_counter() - started:.1f} s", flush=True)


def pairscape(*words) -> None:
    done = subprocess.run([PAIRSCAPE, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pairscape {' '.join(words)}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
    if done.stderr.strip():
        print(done.stderr, file=sys.stderr)


def browse() -> None:
    """The first address that it prints answers with a page."""
    words = [PAIRSCAPE, "browse", "scores.parquet"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            address = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
            with urllib.request.urlopen(address, timeout=30) as answer:
                page = answer.read()
                assert answer.status == 200, answer.status
                assert b"<html" in page.lower(), page[:200]
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
