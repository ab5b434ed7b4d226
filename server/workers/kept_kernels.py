"""Where numba finds compiled code in a process that may not write: the builders have put it there (``views.warm_up``).

numba asks of a folder whether it could write a file there before it reads from it; a confined worker could not.
"""

from __future__ import annotations

from numba.core.caching import UserProvidedCacheLocator


class KeptKernels(UserProvidedCacheLocator):
    """The folder that ``NUMBA_CACHE_DIR`` names, to read from."""

    def ensure_cache_path(self) -> None:
        """It is there, or nothing is kept."""
