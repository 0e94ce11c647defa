"""What all reports share: the environment of their templates, numbers in words, and the writer of a page."""

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairscape.model.reports.figures import NEGATIVE, POSITIVE
from pairscape.model.reports.places import require_own_page
from pairscape.pipeline.storage.write import write_file

if TYPE_CHECKING:
    import jinja2


def finite(value: Any) -> float | None:
    """The number, or None for null, NaN and infinity."""
    return None if value is None or not math.isfinite(value) else float(value)


def number(value: Any) -> str:
    """Three decimals, four where three would round an imperfect value to 1, two digits below 0.01."""
    known = finite(value)
    if known is None:
        return "not defined"
    if 0.9995 <= known < 1:
        return f"{known:.4f}" if known < 0.99995 else "> 0.9999"
    return f"{known:{'.2g' if 0 < abs(known) < 0.00995 else '.3f'}}".replace("-", "−")


def signed(value: Any) -> str:
    """A difference with its sign."""
    known = finite(value)
    return "not defined" if known is None else ("+" if known > 0 else "") + number(known)


def times(ratio: Any) -> str:
    """A multiple of the prevalence, to one decimal."""
    known = finite(ratio)
    return "not defined" if known is None else f"{known:.1f} ×"


def probability(value: Any) -> str:
    """A score beneath a picture: three decimals, 0 and 1 only where it is exactly that."""
    known = finite(value)
    if known is not None and 0 < known < 0.001:
        return "< 0.001"
    return "> 0.999" if known is not None and 0.999 < known < 1 else number(known)


def percent(share: Any) -> str:
    """A share in percent, to two digits, to three where two would make 1e+02 of it."""
    known = finite(share)
    return "–" if known is None else f"{100 * known:.{3 if known >= 0.995 else 2}g} %"


def rate(share: Any) -> str:
    """A rare share to two digits."""
    known = finite(share)
    return "not defined" if known is None else f"{known:.2g}"


def whole(count: Any) -> str:
    """A count with thousands set apart."""
    return "–" if count is None else f"{count:,}"


def in_table(text: Any) -> str:
    """Text for a cell of a Markdown table."""
    return str(text).replace("|", "\\|")


@cache
def templates() -> "jinja2.Environment":
    """The environment of all templates, made when the first page is written."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pairscape.model.reports"),
        autoescape=jinja2.select_autoescape(["html.j2"]),  # the model card is Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {f.__name__: f for f in (number, signed, times, probability, percent, rate, whole, in_table)}
    made.globals["colours"] = {"positive": POSITIVE, "negative": NEGATIVE}
    return made


def write_page(path: Path, template: str, words: Mapping[str, Any]) -> Path:
    """Render a template into a file, which is replaced as a whole; returns its path. Raises like `require_own_page`."""
    require_own_page(path)
    page = templates().get_template(template).render(words)
    write_file(path, page.encode(errors="surrogateescape"))
    return path
