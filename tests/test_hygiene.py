"""What may be imported where, seen from outside: in a process of its own, by what it has loaded afterwards."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "dask", "distributed", "anndata", "scanpy", "zarr", "matplotlib", "numba", "pandas", "scipy")


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after running this code."""
    report = f"\nimport sys\nprint('LOADED', *(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


HELP = """
import sys
sys.argv = ["pairscape", *{arguments}]
import pairscape
try:
    pairscape.main()
except SystemExit as end:
    assert not end.code
"""


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "--version",
        "run --help",
        "ingest --help",
        "heatmaps --help",
        "simulate --help",
        "plant --help",
        "train --help",
        "fetch --help",
        "export --help",
        "browse --help",
        "modules --help",
        "compare --help",
    ],
)
def test_help_loads_nothing_heavy(arguments):
    assert loaded_by(HELP.format(arguments=arguments.split())) == set()


@pytest.mark.parametrize("command", ["heatmaps none.zarr i.zarr --all-pairs", "plan none.zarr --all-pairs"])
def test_a_command_loads_what_it_needs(command):
    """Without scanpy a job starts in two thirds of the time."""
    run = HELP.format(arguments=command.split()).replace("assert not end.code", "assert end.code == 2")
    assert not {"scanpy", "torch", "matplotlib"} & loaded_by(run)


NUMBERS = {"numba", "pandas", "scipy"}


@pytest.mark.parametrize(("module", "allowed"), [
    ("pairscape", set()),
    ("pairscape.pl", set()),
    ("pairscape.annotated", set()),
    ("pairscape.pipeline.options", set()),
    ("pairscape.pipeline.errors", set()),
    ("pairscape.model.options", set()),
    ("pairscape.pipeline.genes.names", set()),
    ("pairscape.pipeline.datasets.registry", set()),
    ("pairscape.pipeline.datasets.fetch", set()),
    ("pairscape.pipeline.datasets.networks", {"pandas"}),
    ("pairscape.pipeline.genes.describe", set()),
    ("pairscape.pipeline.matrix.survey", {"numba", "scipy"}),
    ("pairscape.pipeline.matrix.select", {"pandas", "scipy"}),
    ("pairscape.pipeline.codes.binning", {"numba", "scipy"}),
    ("pairscape.pipeline.heatmaps.kernel", {"numba", "scipy"}),
    ("pairscape.pipeline.datasets.synthetic", {"numba", "scipy"}),
    ("pairscape.pipeline.genes.lists", {"pandas", "scipy"}),
    ("pairscape.pipeline.genes.pairs", {"pandas", "scipy"}),
    ("pairscape.pipeline.genes.labels", {"pandas", "scipy"}),
    ("pairscape.pipeline.heatmaps.tiles", NUMBERS),
    ("pairscape.pipeline.compute.progress", set()),
    ("pairscape.pipeline.storage.write", set()),
    ("pairscape.pipeline.codes.store", {*NUMBERS, "zarr"}),
    ("pairscape.pipeline.heatmaps.images", {*NUMBERS, "zarr"}),
    ("pairscape.pipeline.compute.clusters", {"dask", "distributed", *NUMBERS}),
])  # fmt: skip
def test_a_room_loads_only_what_it_needs(module, allowed):
    """A trainer that reads images starts without Dask, a worker that counts without torch."""
    assert loaded_by(f"import {module}") <= allowed


@pytest.mark.parametrize(
    "module",
    [
        "pairscape.pipeline.heatmaps.job",
        "pairscape.pipeline.codes.encode",
        "pairscape.pipeline.matrix.ingest",
        "pairscape.pipeline.datasets.simulate",
        "pairscape.pipeline.compute.tasks",
    ],
)
def test_a_worker_that_counts_loads_no_torch(module):
    assert "torch" not in loaded_by(f"import {module}")


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("package", ["pipeline", "model"])
def test_nothing_imports_the_front_door(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    front = {"pairscape.command_line", "pairscape.jobfile", "pairscape.__main__"}
    assert [path.name for path in files if front & imports_of(path)] == []


@pytest.mark.parametrize("package", ["pipeline", "model"])
def test_packages_hold_a_docstring_only(package):
    """A re-export there would load Dask into everyone who imports any module of the wing."""
    inits = sorted((ROOT / package).rglob("__init__.py"))
    assert len(inits) > 5
    for path in inits:
        body = ast.parse(path.read_text()).body
        assert [type(node) for node in body] == [ast.Expr], path
        assert isinstance(body[0].value, ast.Constant)
