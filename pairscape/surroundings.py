"""What surrounds this package: folders that cannot be written, terminals without Unicode, a user's own modules.

Standard library only, since all of it happens before anything else is imported.
"""

import codecs
import os
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

# ── where compiled kernels are kept ──────────────────────────────────────────────────────────────────────────────────

CACHE_BYTES = 2**26  # free, of a folder that is to hold compiled kernels: a disk that fills up meanwhile stops the job
LOCATORS = "InTreeCacheLocator,UserWideCacheLocator,pairscape.uncached.Nowhere"


def place_caches() -> None:
    """Choose a folder for compiled kernels and fonts where neither the installed packages nor the home can be written.

    numba looks for one when a module is imported, and without one refuses the import. Where nothing at all can be
    written, kernels are compiled anew in each process, and it is said once.
    """
    if os.environ.get("NUMBA_CACHE_LOCATOR_CLASSES") or _can_make(os.environ.get("NUMBA_CACHE_DIR")):
        return
    numba_file = getattr(find_spec("numba"), "origin", None) or __file__
    packages = [Path(__file__).parent, Path(numba_file).parent]
    if all(map(_takes_files, packages)) or _can_make(_home_cache()):
        return
    folder = next((folder for base in _bases() if (folder := _own_folder(base))), None)
    if folder is None:
        os.environ["NUMBA_CACHE_LOCATOR_CLASSES"] = LOCATORS
        print("pairscape: no folder can be written for compiled kernels, so each process compiles them anew, which "
              "takes a minute; set NUMBA_CACHE_DIR to a folder that can be.", file=sys.stderr)  # fmt: skip
        return
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    if (numba := sys.modules.get("numba")) is not None:  # it has read the environment already
        numba.config.CACHE_DIR = str(folder)


def _takes_files(folder: Path) -> bool:
    with suppress(OSError):
        return os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free > CACHE_BYTES
    return False


def _can_make(folder: str | None) -> bool:
    """Whether a folder takes files, tried with one."""
    if not folder:
        return False
    import tempfile  # which imports a dozen modules, any of which a file of the user's may hide

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return _takes_files(Path(folder))


def _home_cache() -> str:
    """Where numba itself turns to."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "numba")  # noqa: PTH111, PTH118


def _bases() -> Iterable[str]:
    """Folders for temporary files; the current one, Python's last choice, is the user's own."""
    import tempfile

    with suppress(OSError):
        if (base := tempfile.gettempdir()) != os.getcwd():  # noqa: PTH109
            yield base
    yield "/dev/shm"


def _own_folder(base: str) -> Path | None:
    """A folder for this user alone: what is cached there is run, so nobody else may have made it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(base, f"pairscape-cache-{user}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o022:
            return folder if _can_make(str(folder)) else None
    return None


# ── what a terminal cannot show ──────────────────────────────────────────────────────────────────────────────────────

PLAIN = {"×": "x", "–": "-", "—": "-", "−": "-", "→": "->", "←": "<-", "…": "...", "±": "+-", "≤": "<=", "≥": ">=",
         "✓": "*", "µ": "u", "σ": "sigma", "Σ": "sum", "²": "^2", "·": ".", "“": '"', "”": '"', "’": "'"}  # fmt: skip


def make_printable() -> None:
    """Let standard output and error take any text: a sign that their encoding lacks is written in ASCII."""
    codecs.register_error("pairscape", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") in ("strict", "surrogateescape") and hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):  # it is closed
                stream.reconfigure(errors="pairscape")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign) or ascii(sign)[1:-1] for sign in signs), error.end


def require_current_folder() -> None:
    """Refuse a shell that stands in a folder which was removed.

    Raises
    ------
    FileNotFoundError
        It was; paths, also absolute ones, would fail one by one.
    """
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        raise FileNotFoundError(
            "the folder that this was started in does not exist any more, so no path can be found from it; change to "
            "one that does (cd)."
        ) from None


# ── the user's own modules ───────────────────────────────────────────────────────────────────────────────────────────

OFTEN_HARMLESS = {"pairscape", "test", "tests", "docs", "benchmarks", "conftest", "setup"}


def hiding_file(error: BaseException) -> str | None:
    """What to tell if a file of the user's stands in the place of a library and broke an import; None: none does.

    Parameters
    ----------
    error
        What was raised; a file is blamed if its module was imported, or if the error names it.
    """
    for name, file in _hiding():
        taken = getattr(sys.modules.get(name), "__file__", None)
        if (taken and Path(taken).resolve() == file.resolve()) or name in _words(error):
            return (
                f"{file} is imported in place of the library {name}, which Pairscape needs ({_first_line(error)}); "
                f"rename it (and remove {file.parent / '__pycache__'}), or start in another folder."
            )
    return None


def hidden_libraries(names: Iterable[str]) -> str:
    """Files that stand in the place of these libraries, joined by commas; empty: none."""
    wanted = set(names)
    return ", ".join(str(file) for name, file in _hiding() if name in wanted)


def _hiding() -> list[tuple[str, Path]]:
    """Modules of folders that Python searches before the libraries, of the same name as one: name and file."""
    libraries = {str(Path(place).resolve()) for place in sysconfig.get_paths().values()}
    found, own = [], [place for place in sys.path if not _is_library(place, libraries)]
    installed = [place for place in sys.path if _is_library(place, libraries)]
    for place in own:
        for file in _modules_in(Path(place or ".")):
            name = file.parent.name if file.name == "__init__.py" else file.stem
            if name not in OFTEN_HARMLESS and name not in sys.builtin_module_names and PathFinder.find_spec(
                name, installed
            ):  # fmt: skip
                found.append((name, file.absolute()))
    return found


def _modules_in(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [*folder.glob("*.py"), *folder.glob("*/__init__.py")]
    return []


def _is_library(place: str, libraries: set[str]) -> bool:
    path = Path(place or ".")
    return (
        path.name in ("site-packages", "dist-packages", "lib-dynload")
        or path.suffix == ".zip"
        or str(path.resolve()) in libraries
    )


def _words(error: BaseException) -> set[str]:
    """Words of an error, and names of modules in it."""
    return {word.strip("'\"().,:").partition(".")[0] for word in str(error).split()}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
