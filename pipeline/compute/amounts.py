"""Sizes and times as users write them: 4GB, 55m."""

from dask.utils import parse_bytes, parse_timedelta

from pairscape.pipeline.errors import InputError


def asked_bytes(text: str) -> int:
    """Bytes of a memory limit.

    Raises
    ------
    InputError
        No number of bytes, or not positive.
    """
    try:
        limit = int(parse_bytes(text))
    except (ValueError, OverflowError) as error:
        raise InputError(f"memory limit {text!r} is no size; give one such as 4GB.") from error
    if limit <= 0:
        raise InputError(f"memory limit {text!r} is not positive; give one such as 4GB.")
    return limit


def asked_seconds(text: str) -> float:
    """Seconds of a lifetime.

    Raises
    ------
    InputError
        No time.
    """
    try:
        return float(parse_timedelta(text))
    except (ValueError, KeyError) as error:
        raise InputError(f"lifetime {text!r} is no time; give one such as 55m or 2h.") from error
