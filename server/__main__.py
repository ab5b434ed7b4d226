"""``python -m server``: the command ``lakeflight`` from a checkout."""

from __future__ import annotations

from lakeflight.__main__ import main

if __name__ == "__main__":
    main()
