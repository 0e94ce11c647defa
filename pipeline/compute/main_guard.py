"""Refuse, before a process starts, a script whose lines each new process would run again.

A process that Python spawns imports the script that started it. A script that calls a job at its top level would call
it there again: each process would start processes, and multiprocessing ends them with pages of errors. This module
imports no Dask, so that a trainer starts without it.
"""

import ast
import sys
from pathlib import Path
from types import FrameType

from pairscape.pipeline.errors import InputError


def require_main_guard(other_way: str) -> None:
    """Refuse to start processes from the top level of a script.

    Parameters
    ----------
    other_way
        How to do without processes, such as `scheduler="threads"`.

    Raises
    ------
    InputError
        The script calls the job outside of `if __name__ == "__main__":`.
    """
    frame = _top_level()
    if frame is None or _is_guarded(Path(frame.f_code.co_filename), frame.f_lineno):
        return
    raise InputError(
        f"{frame.f_code.co_filename}, line {frame.f_lineno}: this job starts processes, and each of them would run the "
        f'script again; put that line below `if __name__ == "__main__":`, or give {other_way}, which starts none.'
    )


def _top_level() -> FrameType | None:
    """The frame of the script that this process runs; None in a notebook, a prompt, or a thread of its own."""
    facts, frame = vars(sys.modules["__main__"]), sys._getframe()
    while frame is not None and "__file__" in facts:  # without a file there is nothing to run again
        if frame.f_globals is facts and frame.f_code.co_name == "<module>":
            return frame if Path(frame.f_code.co_filename).is_file() else None
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _is_guarded(script: Path, line: int) -> bool:
    """Whether a line stands in a block that asks for `__name__`, or below one that leaves; True if none can tell."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    asks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and _names_itself(node.test)]
    leaves = [node for node in asks if node.end_lineno and node.end_lineno < line and _leaves(node)]
    return bool(leaves) or any(node.lineno <= line <= (node.end_lineno or 0) for node in asks)


def _names_itself(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test))


def _leaves(block: ast.If) -> bool:
    """Whether a block ends with an exit: `if __name__ != "__main__": sys.exit()`."""
    last = block.body[-1]
    return isinstance(last, ast.Raise) or (isinstance(last, ast.Expr) and "exit" in ast.unparse(last))
