"""Named places at which tests make the program die or fail: between two steps whose order is the safety argument.

``LAKEFLIGHT_FAILPOINT`` arms them when the process starts: ``name:action:probability:seed``, several joined by commas,
such as ``row:kill:0.2:7``. Actions: ``kill`` (SIGKILL to ourselves), ``raise`` (``FailpointError``). Unset, a failpoint
costs one look at a global.

    payload   a block's bytes are durable, its row is not there
    row       the row is committed, the sender has no answer
    reserve   a write is announced in the catalog, nothing is written
    write     the object is in the store, no row names it
    seal      a bucket is about to be called complete
    commit    the transaction that names the object is committed
    release   the old objects are released, not deleted
    expire    old partitions are released, their buckets gone
    horizon   an hour of blocks is not seen any more, its rows and payloads are there
    purge     payloads are deleted, their rows are there
    reap      what a dead writer left is deleted, its announcement is there
    sweep     a file that nothing names is deleted, the note of it is there
    audit     a bucket that does not hold its blocks is marked, the next is not looked at
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

VARIABLE: Final = "LAKEFLIGHT_FAILPOINT"
RETENTION: Final = ("expire", "horizon", "purge")
HOUSEKEEPING: Final = ("release", *RETENTION, "reap", "sweep", "audit")  # nowhere else
WRITING: Final = ("reserve", "write", "seal", "commit")  # of partitions, to make and to merge them
NAMES: Final = ("payload", "row", *WRITING, *HOUSEKEEPING)
ACTIONS: Final = ("kill", "raise")


class FailpointError(Exception):
    """Raised by an armed failpoint; no handler of the program may know it."""


@dataclass(frozen=True, slots=True)
class _Armed:
    action: str
    probability: float
    chance: random.Random


_armed: Mapping[str, _Armed] | None = None


def failpoint(name: str) -> None:
    """Do what a test has armed ``name`` for: nothing, in production."""
    if _armed is not None:
        _hit(name)


def arm(specification: str) -> None:
    """Arm for this process from the text of the variable; the empty text disarms.

    Raises:
        ValueError: An unknown name or action, or no probability.
    """
    global _armed
    armed = {}
    for part in filter(None, specification.split(",")):
        name, action, *rest = part.split(":")
        if name not in NAMES or action not in ACTIONS or len(rest) > 2:
            raise ValueError(f"not a failpoint: {part!r}; names are {', '.join(NAMES)}, actions {', '.join(ACTIONS)}")
        probability = float(rest[0]) if rest else 1.0
        seed = rest[1] if len(rest) == 2 else "0"
        armed[name] = _Armed(action, probability, random.Random(f"{seed}/{name}/{os.getpid()}"))
    _armed = armed or None


def _hit(name: str) -> None:
    armed = (_armed or {}).get(name)
    if armed is None or armed.chance.random() >= armed.probability:
        return
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise FailpointError(name)


arm(os.environ.get(VARIABLE, ""))
