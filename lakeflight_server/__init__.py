"""The server as it is installed: importing this package makes ``server`` and its floors importable.

They have plain names (``server``, ``views``, ``lakehouse``, ``migrations``), which at the top of site-packages would meet
other people's files of the same names. So a wheel keeps them inside this package, and only a process that runs the server
looks there, before anywhere else. In a checkout they lie beside this package.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent
HOME: Final = _PACKAGE if (_PACKAGE / "server").is_dir() else _PACKAGE.parent

if str(HOME) not in sys.path[:1]:
    sys.path.insert(0, str(HOME))

__all__ = ["HOME"]
