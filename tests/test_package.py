"""The installed package: one import name, whatever a user's folder holds, and a wheel with all its files."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def users_folder(tmp_path):
    """A folder with modules of the names that parts of this package had once."""
    for name in ("model.py", "pipeline.py"):
        (tmp_path / name).write_text("MINE = True\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/__init__.py").write_text("MINE = 'a package'\n")
    return tmp_path


def run(*command, folder):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WORKER = """
from distributed import Client, LocalCluster

def ask():
    import model, pipeline, pairscape.model.options, pairscape.pipeline.heatmaps.count as count
    return model.MINE, pipeline.MINE, count.__name__

if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        print(client.submit(ask).result())
"""


def test_a_user_may_have_modules_of_any_name(users_folder):
    said = run("-c", "import pairscape, pairscape.model.options, model, pipeline; print(model.MINE, pipeline.MINE)",
               folder=users_folder)  # fmt: skip
    assert said.split() == ["a", "package", "True"]
    assert (
        run("-m", "pairscape", "--version", folder=users_folder).strip()
        == run("-c", "import pairscape; print(pairscape.__version__)", folder=users_folder).strip()
    )
    script = Path(sys.executable).with_name("pairscape")
    assert "heatmaps" in run(str(script), "--help", folder=users_folder)


@pytest.mark.cluster
def test_a_worker_started_there_finds_the_package(users_folder):
    (users_folder / "ask.py").write_text(WORKER)
    said = run("ask.py", folder=users_folder)
    assert said.strip() == "('a package', True, 'pairscape.pipeline.heatmaps.count')"


def test_the_wheel_holds_one_name_and_every_file(tmp_path):
    tree = tmp_path / "tree"
    for name in ("pairscape", "pipeline", "model", "deploy"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "constraints.txt"):
        shutil.copy(ROOT / name, tree)
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(tree),
        folder=tmp_path)  # fmt: skip
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"pairscape"}
    bundled = {f"pairscape/universal/{path.name}" for path in (ROOT / "pairscape/universal").iterdir()}
    assert "pairscape/universal/model.safetensors" in bundled
    shipped = [path.relative_to(ROOT / "deploy") for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    wanted = (
        {"pairscape/py.typed"}
        | {f"pairscape/deployment/{path}" for path in shipped if path.parts[0] != "conda"}
        | bundled
        | {
            f"pairscape/{path.relative_to(ROOT)}"
            for wing in ("pipeline", "model")
            for path in (ROOT / wing).rglob("*")
            if path.is_file() and path.parent.name != "__pycache__"
        }
    )
    assert wanted <= set(names)
    run("-c", f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})", folder=tree)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as packed:
        members = {name.split("/", 1)[-1]: packed.getmember(name) for name in packed.getnames()}
    assert {f"deploy/{path}" for path in shipped} | {"constraints.txt"} <= set(members)
    assert not [name for name, member in members.items() if member.issym() or member.islnk()]
