"""Machines and folders as users have them: nothing writable, terminals without Unicode, scripts, their own modules."""

import ast
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

import pairscape
from model_fixtures import as_anndata, module_expression, run_command
from pairscape import surroundings
from pairscape.pipeline.compute import main_guard
from pairscape.pipeline.compute.workers import _fault, describe_worker, versions
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Compute, PairSource, expand_home
from pairscape.pipeline.storage.paths import located, spelled

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """A small h5ad of counts."""
    path = tmp_path_factory.mktemp("cells") / "c.h5ad"
    as_anndata(np.round(4 * module_expression(30, 2, 3, seed=0)[0])).write_h5ad(path)
    return path


def run(*words, folder, **environment):
    """A process in a folder, with variables set, or of None unset; its output with the errors."""
    merged = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **environment}
    return subprocess.run(
        [*map(str, words)],
        cwd=folder,
        env={name: str(value) for name, value in merged.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=200,
    )


# ---------------------------------------------------------------- folders that cannot be written

READ_ONLY = "mount --bind {0} {0} && mount -o remount,ro,bind {0}"
HOME_GONE = {"HOME": "/proc/none", "XDG_CACHE_HOME": None, "NUMBA_CACHE_DIR": None, "MPLCONFIGDIR": None}
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")
SYSTEMS = {  # folders that cannot be written, what else is done, variables, words of what is printed
    "installation and home": ((), "", HOME_GONE, ""),
    "a cache that cannot be": ((), "", {**HOME_GONE, "NUMBA_CACHE_DIR": "/proc/cache"}, ""),
    "and /tmp": (("/tmp", "/var/tmp"), "", HOME_GONE, ""),
    "nothing can": (TEMPORARY, "", HOME_GONE, "no folder can be written"),
    "no TMPDIR": ((), "", {**HOME_GONE, "TMPDIR": "/no/such/folder"}, ""),
    "a full /tmp": (
        ("/var/tmp", "/dev/shm"),
        "mount -t tmpfs -o size=1m none /tmp; head -c 2000000 /dev/zero > /tmp/full 2>/dev/null",
        HOME_GONE,
        "no folder can be written",
    ),
}


def may_mount():
    return os.geteuid() == 0 and subprocess.run(
        ["unshare", "-m", "true"], check=False, capture_output=True
    ).returncode == 0  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux" or not may_mount(), reason="folders are made read-only by mounts")
@pytest.mark.parametrize("name", SYSTEMS)
def test_kernels_run_where_folders_cannot_be_written(name, cells):
    folders, more, environment, words = SYSTEMS[name]
    places = dict.fromkeys([str(ROOT), *(str(Path(p)) for p in sys.path if p.endswith("site-packages")), *folders])
    script = "; ".join(
        [
            f"mount -t tmpfs none /mnt && cp {cells} /mnt/c.h5ad",
            *(READ_ONLY.format(place) for place in places),
            more or "true",
            f"cd /mnt && {sys.executable} -m pairscape heatmaps c.h5ad i.zarr --all-pairs --scheduler synchronous",
        ]
    )
    done = run("unshare", "-m", "bash", "-c", script, folder="/", **environment)
    said = done.stdout.decode()
    assert done.returncode == 0, said
    assert said.count(words) == 1 if words else "no folder can" not in said


def test_a_cache_of_another_user_is_not_taken(tmp_path):
    """What lies there is run, so nobody else may have made the folder."""
    own = surroundings._own_folder(str(tmp_path))
    assert own is not None
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)
    assert surroundings._own_folder(str(tmp_path)) is None
    own.rmdir()
    own.symlink_to(tmp_path)
    assert surroundings._own_folder(str(tmp_path)) is None


def test_a_removed_folder_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run_command("ingest", tmp_path / "c.h5ad", "e.zarr") == 1
    assert "does not exist any more" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="does not exist any more"):
        pairscape.plan(tmp_path / "e.zarr", all_pairs=True)
    monkeypatch.chdir(tmp_path)


# ---------------------------------------------------------------- terminals, pipes and logs

ENCODINGS = ["ascii", "latin-1", "cp1252", "iso8859-15", "koi8-r", "shift_jis", "utf-8", "utf-16"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_encoding_takes_what_is_printed(encoding, cells, tmp_path, monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    assert run_command("ingest", cells, tmp_path / "e.zarr") == 0
    assert run_command("heatmaps", tmp_path / "é×\udcff.zarr", tmp_path / "i.zarr", "--all-pairs") == 2
    assert run_command("heatmaps", "--help") == 0
    out, err = [(stream.flush(), stream.buffer.getvalue().decode(encoding))[1] for stream in streams]
    assert "30 cells" in out
    assert "does not exist" in err


def test_signs_have_words_and_all_others_their_number():
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    sys_stdout, sys.stdout = sys.stdout, stream
    try:
        surroundings.make_printable()
    finally:
        sys.stdout = sys_stdout
    stream.write("3 × 2 → 6 – é 漢 \udc80 ±")
    stream.flush()
    assert stream.buffer.getvalue() == rb"3 x 2 -> 6 - \xe9 \u6f22 \udc80 +-"


LOCALES = {
    "C, by bytes": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "POSIX, ASCII pipe": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"},
    "dumb terminal": {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "20"},
    "no locale": {"LC_ALL": None, "LANG": None, "LC_CTYPE": None, "TERM": None},
}


@pytest.mark.parametrize("name", LOCALES)
def test_any_locale_gives_the_same_store(name, cells, tmp_path):
    folder = tmp_path / "données"
    folder.mkdir()
    (folder / "célls.h5ad").write_bytes(cells.read_bytes())
    assert run_command("ingest", folder / "célls.h5ad", folder / "é.zarr", "--preset", "none") == 0
    done = run(sys.executable, "-m", "pairscape", "ingest", "célls.h5ad", "o.zarr", "--preset", "none", folder=folder,
               **LOCALES[name])  # fmt: skip
    assert done.returncode == 0, done.stdout
    files = [sorted(p for p in (folder / store).rglob("*") if p.is_file()) for store in ("é.zarr", "o.zarr")]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    assert zarr.open_group(str(folder / "o.zarr"))["uns/pairscape/source"][()] == "célls.h5ad"


def test_every_text_file_says_its_encoding():
    lacking = []
    for file in [path for wing in ("pairscape", "pipeline", "model") for path in (ROOT / wing).rglob("*.py")]:
        for call in (
            node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ):
            words = {str(word.value) for word in call.args if isinstance(word, ast.Constant)}
            attribute = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            is_path = attribute in ("read_text", "write_text") or (
                attribute == "open" and words & {"r", "w", "a", "r+"}
            )
            if is_path and "encoding" not in {keyword.arg for keyword in call.keywords}:
                lacking.append(f"{file.name}:{call.lineno}")
    assert lacking == []


# ---------------------------------------------------------------- ~ and $NAME


@pytest.fixture
def at_home(cells, tmp_path, monkeypatch):
    """A home with a matrix and lists, and another current folder."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (home / "c.h5ad").write_bytes(cells.read_bytes())
    genes = as_anndata(module_expression(30, 2, 3, seed=0)[0]).var_names
    (home / "tfs.txt").write_text("\n".join(genes[:2]))
    (home / "pairs.csv").write_text(f"gene_a,gene_b,label\n{genes[0]},{genes[1]},1\n{genes[2]},{genes[3]},0\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ATLAS", "c.h5ad")
    monkeypatch.chdir(elsewhere)
    return home


HEATMAPS = ["heatmaps", "~/c.h5ad", "~/i.zarr", "--scheduler", "synchronous", "--quiet"]
TYPED = {  # what is typed, and what it makes at home
    "input": (["ingest", "~/c.h5ad", "../home/e.zarr"], "e.zarr"),
    "output": (["ingest", "../home/c.h5ad", "~/e.zarr"], "e.zarr"),
    "variable": (["ingest", "$HOME/${ATLAS}", "$HOME/e.zarr"], "e.zarr"),
    "pattern": (["ingest", "~/c*.h5ad", "~/e.zarr"], "e.zarr"),
    "file URL": (["ingest", "file://~/c.h5ad", "~/e.zarr"], "e.zarr"),
    "list of genes": (["ingest", "~/c.h5ad", "~/e.zarr", "--genes=~/tfs.txt"], "e.zarr"),
    "regulators": ([*HEATMAPS, "--regulators=~/tfs.txt", "--targets", "~/tfs.txt"], "i.zarr"),
    "pairs": ([*HEATMAPS, "--pairs=~/pairs.csv"], "i.zarr"),
    "codes": ([*HEATMAPS, "--all-pairs", "--codes", "~/k.zarr"], "k.zarr"),
    "events": ([*HEATMAPS, "--all-pairs", "--events=~/log.json"], "log.json"),
    "job file": (["run", "~/job.toml"], "res/expression.zarr"),
    "lists of a job": (["run", "$HOME/job.toml"], "res/images.zarr"),
}
JOB = """folder = "~/res"
scheduler = "synchronous"
[ingest]
matrix = "$HOME/c.h5ad"
[heatmaps]
regulators = "~/tfs.txt"
codes = "~/res/codes.zarr"
"""


@pytest.mark.parametrize("name", TYPED)
def test_home_is_filled_in_wherever_a_path_is_typed(name, at_home):
    words, made = TYPED[name]
    (at_home / "job.toml").write_text(JOB)
    assert run_command(*words) == 0
    assert (at_home / made).exists()
    assert list(Path.cwd().iterdir()) == []


def test_a_job_notices_that_a_file_at_home_has_changed(at_home, capsys):
    (at_home / "job.toml").write_text(JOB)
    assert run_command("run", "~/job.toml") == 0
    assert run_command("run", "~/job.toml") == 0
    assert capsys.readouterr().out.count("(done before)") == 2
    with (at_home / "tfs.txt").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert run_command("run", "~/job.toml") == 2


PLACES = {
    "options": lambda: PairSource(pairs="~/pairs.csv").pairs,
    "Path": lambda: PairSource(pairs=Path("~/pairs.csv")).pairs,
    "certificates": lambda: Compute(tls_ca="~/pairs.csv", tls_cert="~/a", tls_key="~/b").tls_ca,
    "located": lambda: located("~/pairs.csv"),
    "located Path": lambda: located(Path("~/pairs.csv")),
    "spelled": lambda: Path(spelled("~/pairs.csv")),
    "expression": lambda: Path(open_expression("~/c.h5ad").path).with_name("pairs.csv"),
}


@pytest.mark.parametrize("name", PLACES)
def test_home_is_filled_in_wherever_a_path_is_given(name, at_home):
    assert PLACES[name]() == at_home / "pairs.csv"


@pytest.mark.parametrize("name", ["~x.csv", "a~b", "cost$5.csv", "$", "a/~/b", "$UNSET_NAME/x"])
def test_names_with_these_signs_stay(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert expand_home(name) == name


def test_a_file_that_is_named_so_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("$HOME").write_text("")
    assert expand_home("$HOME") == "$HOME"
    assert expand_home("s3://bucket/x") == "s3://bucket/x"


# ---------------------------------------------------------------- scripts without a guard

HEAD = (
    "import sys\nfrom pairscape.pipeline.compute.main_guard import note_call, require_main_guard\n"
    "def job(starts=True):\n    require_main_guard('x=1') if starts else note_call()\n"
)
SCRIPTS = {  # below the head, and whether it is refused
    "top level": ("job()", True),
    "in a function": ("def main():\n    job()\nmain()", True),
    "in a loop": ("for i in range(2):\n    job()", True),
    "in an if of something else": ("if sys.argv:\n    job()", True),
    "in a try": ("try:\n    job()\nfinally:\n    pass", True),
    "another before the guard": ("job(False)\nif __name__ == '__main__':\n    job()", True),
    "class body": ("class A:\n    job()", True),
    "guard": ("if __name__ == '__main__':\n    job()", False),
    "guard the other way round": ('if "__main__" == __name__:\n    job()', False),
    "guard in a try": ("try:\n    if __name__ == '__main__':\n        job()\nfinally:\n    pass", False),
    "guard with more": ("if __name__ == '__main__' and sys.argv:\n    job()", False),
    "guard of a function": ("def main():\n    job()\nif __name__ == '__main__':\n    main()", False),
    "leaves otherwise": ("if __name__ != '__main__':\n    raise SystemExit\njob()", False),
    "exits otherwise": ("if __name__ != '__main__':\n    sys.exit()\njob()", False),
    "thread": ("import threading\nt = threading.Thread(target=job)\nt.start(); t.join()", False),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_without_a_guard_is_refused_before_processes_start(name, tmp_path):
    body, refused = SCRIPTS[name]
    (tmp_path / "s.py").write_text(HEAD + body + "\n")
    done = run(sys.executable, "s.py", folder=tmp_path)
    last = done.stdout.decode().splitlines()[-1:]
    assert done.returncode == int(refused), last
    if refused:
        assert '__name__ == "__main__"' in last[0]
        assert "x=1" in last[0]
        assert "s.py, line " in last[0]


@pytest.mark.parametrize("way", ["-c", "standard input", "-m"])
def test_what_no_process_would_run_again_is_not_refused(way, tmp_path):
    (tmp_path / "s.py").write_text(HEAD + "if __name__ == '__main__':\n    job()\n")
    words = {"-c": ["-c", HEAD + "job()"], "standard input": ["-"], "-m": ["-m", "s"]}[way]
    done = subprocess.run([sys.executable, *words], input=HEAD + "job()\n", cwd=tmp_path, check=False, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_whole_command_says_it_in_one_line(cells, tmp_path):
    call = f"pairscape.heatmaps({str(cells)!r}, 'i.zarr', all_pairs=True, scheduler='local')"
    (tmp_path / "s.py").write_text(f"import pairscape\n{call}\n")
    done = run(sys.executable, "s.py", folder=tmp_path, DASK_SCHEDULER_ADDRESS=None)
    assert done.returncode == 1
    last = done.stdout.decode().splitlines()[-1]
    assert last.startswith("pairscape.pipeline.errors.InputError: ")
    assert 'scheduler="threads"' in last
    assert not list(tmp_path.glob("*.zarr"))


def test_notebooks_and_threads_have_no_script():
    found = []
    thread = threading.Thread(target=lambda: found.append(main_guard._top_level()))
    thread.start()
    thread.join()
    assert found == [None]


# ---------------------------------------------------------------- files that stand in the place of libraries

HIDING = ["random.py", "zarr.py", "dask.py", "numpy/__init__.py", "queue.py", "h5py.py", "anndata.py", "cyclopts.py",
          "json.py", "scipy/__init__.py", "distributed.py"]  # fmt: skip


@pytest.mark.parametrize("name", HIDING)
def test_a_file_that_hides_a_library_is_named(name, cells, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("MINE = 1\n")
    words = ["heatmaps", cells, "i.zarr", "--all-pairs", "--scheduler", "synchronous"]
    done = run(sys.executable, "-m", "pairscape", *words, folder=tmp_path)
    last = done.stdout.decode().splitlines()[-1]
    assert done.returncode in (1, 2), last
    assert str(tmp_path / name) in last


@pytest.mark.parametrize("name", ["pipeline.py", "statistics.py", "zarr/data.txt"])
def test_a_file_that_hides_nothing_here_is_nobodys_matter(name, cells, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("MINE = 1\n")
    done = run(sys.executable, "-m", "pairscape", "plan", cells, "--all-pairs", "--scheduler", "synchronous",
               folder=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout.decode()


def test_our_own_errors_blame_no_file(tmp_path, monkeypatch):
    (tmp_path / "zarr.py").write_text("MINE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert surroundings.hiding_file(AttributeError("'Codes' object has no attribute 'read'")) is None
    assert str(tmp_path / "zarr.py") in str(surroundings.hiding_file(ImportError("No module named 'zarr.codecs'")))


def test_a_worker_that_would_import_another_library_is_refused(tmp_path, monkeypatch):
    (tmp_path / "numcodecs.py").write_text("MINE = 1\n")
    answer = describe_worker([], None)
    assert _fault("tcp://a", answer, {}, None) == ""
    monkeypatch.syspath_prepend(tmp_path)
    said = _fault("tcp://a", describe_worker([], None), {}, None)
    assert str(tmp_path / "numcodecs.py") in said
    assert versions()["numcodecs"] != "not installed"


def test_input_errors_stay_what_they_are():
    with pytest.raises(InputError):
        PairSource()
