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
        The script calls this job, or has called another, outside of `if __name__ == "__main__":`.
    """
    note_call()
    for script, line in _called:
        if not _is_guarded(Path(script), line):
            raise InputError(
                f"{script}, line {line}: this job starts processes, and each of them would run the script again, that "
                f'line too; put it below `if __name__ == "__main__":`, or give {other_way}, which starts none.'
            )


_called: dict[tuple[str, int], None] = {}  # lines of the script that have called a job


def note_call() -> None:
    """Note the line of the script that calls a job: a process that a later job starts would come upon it too."""
    frame = _top_level()
    if frame is not None:
        _called[frame.f_code.co_filename, frame.f_lineno] = None


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
