"""How long a job of a queue may last, and how much of that its workers live. Pure."""

from pairscape.pipeline.errors import InputError

UNITS = {  # what one number alone, and two joined by a colon, mean in seconds
    "slurm": (60, (60, 1)),
    "lsf": (60, (3600, 60)),
    "pbs": (1, (60, 1)),
    "sge": (1, (60, 1)),
}


def walltime_seconds(text: str, queue: str) -> int:
    """Seconds that a walltime means, as that queue reads it: `30`, `30:00`, `01:30:00`, `1-12`, `1-12:30`.

    Raises
    ------
    InputError
        A walltime that this queue does not have.
    """
    days, dash, rest = str(text).strip().rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in (*parts, *([days] if dash else []))) or len(parts) > 3:
        raise InputError(f"walltime {text!r} is no time of {queue}; give one such as 01:30:00.")
    alone, two = UNITS[queue]
    if dash:
        units: tuple[int, ...] = (3600, 60, 1)  # 1-12 is a day and twelve hours
    else:
        units = {1: (alone,), 2: two, 3: (3600, 60, 1)}[len(parts)]
    seconds = sum(int(part) * unit for part, unit in zip(parts, units, strict=False))
    return seconds + (int(days) * 86_400 if dash else 0)


def worker_life(walltime: int | None, lifetime: float | None) -> tuple[float, float] | None:
    """Seconds after which workers end by themselves, and by how much they differ; None: whenever the job ends.

    A worker that ends hands its results over; one that is killed at the walltime loses them. They differ so that not
    all end at once. Absent a lifetime: 55 of 60 minutes, give or take four.

    Raises
    ------
    InputError
        A lifetime that is not below the walltime.
    """
    if walltime is None:
        return None if lifetime is None else (lifetime, lifetime / 10)
    if lifetime is None:
        return walltime * 11 / 12, walltime / 15
    if not 0 < lifetime < walltime:
        raise InputError(
            f"lifetime is {lifetime:g} s and the walltime {walltime} s: workers have to end, and hand over, before "
            "they are killed; give less, or configure a longer walltime."
        )
    return lifetime, min(lifetime / 10, (walltime - lifetime) / 2)
