"""Other versions of the server, made of this tree: with further steps of the schema, other writer versions, or another clock.

A version is a folder with the packages that differ; everything else is found where it is. It is started as this tree is, and
so are its own processes: ``serving(..., tree=version)``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lakehouse.catalog.schema import known_version
from tests.support.fixtures import ROOT

_SAME: Final = shutil.ignore_patterns("__pycache__")

# The other modules of views are those of the tree, and their compiled kernels with them.
_VIEWS: Final = "__path__.append({views!r})\n"

# Before anything of the server is imported, in each of its processes. Nothing of it asks datetime for the time.
_CLOCK: Final = """
import time

_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + {ahead_s}
time.time_ns = lambda: _time_ns() + {ahead_s} * 1_000_000_000
"""


def version(
    folder: Path,
    *,
    steps: Mapping[str, str] | None = None,
    writer_versions: Mapping[str, int] | None = None,
    ahead_s: int = 0,
) -> Path:
    """The folder of a version.

    Args:
        steps: Further steps of the schema, in order, by their names.
        writer_versions: Of views, by the names of their modules.
        ahead_s: How much later its clock is.
    """
    for package in ("server", "lakeflight_server"):  # the latter has the others found beside it
        shutil.copytree(ROOT / package, folder / package, ignore=_SAME)
    if ahead_s:
        start = folder / "server" / "__init__.py"
        start.write_text(start.read_text() + _CLOCK.format(ahead_s=ahead_s))
    if steps:
        shutil.copytree(ROOT / "migrations", folder / "migrations", ignore=_SAME)
        for number, (name, sql) in enumerate(steps.items(), known_version() + 1):
            (folder / "migrations" / f"{number:04}_{name}.sql").write_text(sql)
    if writer_versions:
        (folder / "views").mkdir()
        offer = (ROOT / "views" / "__init__.py").read_text()
        begin = offer.index("from __future__ import annotations\n") + len("from __future__ import annotations\n")
        here = _VIEWS.format(views=str(ROOT / "views"))
        (folder / "views" / "__init__.py").write_text(offer[:begin] + here + offer[begin:])
        for module, number in writer_versions.items():
            text, changed = re.subn(
                r"writer_version: Final = \d+",
                f"writer_version: Final = {number}",
                (ROOT / "views" / f"{module}.py").read_text(),
            )
            assert changed == 1, f"views/{module}.py does not say its writer version as the others do"
            (folder / "views" / f"{module}.py").write_text(text)
    return folder
