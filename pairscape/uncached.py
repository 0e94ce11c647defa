"""numba's cache where no folder can be written: nothing is looked for and nothing is kept.

numba imports this by its setting NUMBA_CACHE_LOCATOR_CLASSES, which `pairscape.surroundings.place_caches` makes.
"""

from typing import Any

from numba.core.caching import Cache, InTreeCacheLocator


def _keep_nothing(*arguments: Any) -> None:
    """In place of writing a compiled kernel, also of other packages."""


Cache.save_overload = _keep_nothing  # type: ignore[method-assign]


class Nowhere(InTreeCacheLocator):
    """The folder beside the module, as numba's own locator has it, though it cannot be written."""

    def ensure_cache_path(self) -> None:
        """Ask for nothing."""
