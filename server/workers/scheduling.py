"""Whose turn it is: who gets a free worker, who may keep one, and who has waited in vain. Decides; does nothing itself.

A statement's cost shows only while it runs, so everyone begins as if it were short. There are *long places* for
whatever runs, and a few *short places* beside them, which nothing long may hold: what outgrows a short place goes on
in a long one if one is free, and else has to begin anew in one. So a short statement finds a place within a moment,
however many long ones there are; and long ones lose nothing, for places are theirs alone as soon as they have them.

Among those who wait, the one goes first whose identity has used the least of the engine lately, then whose connection
has, then who came first: connections take turns, and whoever asked for little waits for little. A short place takes
texts that were short before first, for with others it has yet to be seen, but only for a moment after these have come:
what nobody knows yet becomes known by running. Where too many wait, the connection with the most of them has one less.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Literal

from lakehouse.errors import LimitExceededError
from lakehouse.model import Caller

OUTGROWN_AFTER_CPU_S: Final = 0.25  # of the worker's processors: what a short place is for
OUTGROWN_AFTER_S: Final = 0.5  # by the clock, as there are statements that wait for something
KNOWN_LONG_S: Final = 1.0  # of engine time: what took so long once will again, and does not try a short place first
KNOWN_GO_AHEAD_S: Final = 0.25  # of texts that are not known, counted from when these came; then they are like others
SHAPED_CHARACTERS_MAX: Final = 8 << 10  # of a text, in which literals are left out: a few ms of the event loop at worst
KNOWN_MAX: Final = 8_192  # texts that are remembered for what they cost, 16 bytes each
USE_HALVES_IN_S: Final = 10.0  # what was used so long ago counts half
USE_IS_LITTLE_S: Final = 0.25  # whoever has used less is as good as one who never came before
USERS_REMEMBERED_MAX: Final = 4_096

Place = Literal["none", "short", "long"]

_SPARED: Final = re.compile(r"""("[^"]*")|'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/""", re.DOTALL)  # quoted names stay
_DIGITS: Final = str.maketrans("123456789", "0" * 9)


@dataclass(slots=True, eq=False)
class Claim:
    """One wish for a worker: it waits, has a place, and ends."""

    caller: Caller
    text: bytes = b""  # names the work, if it may be known from before: see ``text_key``
    long: bool = False  # no short place will do
    short: bool = False  # its text was short the last time
    large: bool = False  # its result is more than a short place hands out
    place: Place = "none"
    arrived: int = 0
    since: float = 0.0  # the time when it arrived
    used_s: float = 0.0  # of the engine, as far as it has been charged


def text_key(caller: Caller, kind: str, sql: str) -> bytes:
    """A short name for one caller's statement, whatever its literals are: a dashboard's times are others each time.

    Strings and comments are left out, and of numbers the length alone is kept: ``range(10)`` says nothing of
    ``range(1000000000)``.
    """
    shape = _SPARED.sub(r"\1", sql[:SHAPED_CHARACTERS_MAX]).translate(_DIGITS) + sql[SHAPED_CHARACTERS_MAX:]
    return hashlib.blake2b(f"{caller.name}\0{kind}\0{shape}".encode(errors="replace"), digest_size=16).digest()


@dataclass(slots=True)
class _Use:
    """What somebody has used lately, halving as it grows old."""

    seconds: float = 0.0
    at: float = 0.0

    def by(self, now: float) -> float:
        age_s = max(0.0, now - self.at)
        return self.seconds * math.exp2(-age_s / USE_HALVES_IN_S)

    def add(self, seconds: float, now: float) -> None:
        self.seconds, self.at = self.by(now) + seconds, now


@dataclass(slots=True)
class Schedule:
    """The places of one pool and the queue before them. ``now`` is any clock that goes forward, in seconds."""

    long_places: int
    short_places: int = 0
    waiting_max: int = 128
    _waiting: dict[Claim, None] = field(default_factory=dict)
    _long: set[Claim] = field(default_factory=set)
    _short: set[Claim] = field(default_factory=set)
    _arrivals: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _use: OrderedDict[tuple[str, str | None], _Use] = field(default_factory=OrderedDict)
    _was_long: OrderedDict[bytes, bool] = field(default_factory=OrderedDict)  # by text

    @property
    def places(self) -> int:
        return self.long_places + self.short_places

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def wait(self, claim: Claim, now: float) -> Claim | None:
        """Join the queue; who has to leave it for that, if anybody: not the one who has asked for little.

        Raises:
            LimitExceededError: Too many wait, and nobody has more of them than this connection.
        """
        leaves = None
        if len(self._waiting) >= self.waiting_max:
            leaves = self._one_too_many(claim)
            del self._waiting[leaves]
        if not claim.arrived:  # who begins anew keeps its turn
            claim.arrived, claim.since = next(self._arrivals), now
        if claim.text and (was_long := self._was_long.get(claim.text)) is not None:
            claim.long, claim.short = claim.long or was_long, not was_long
        self._waiting[claim] = None
        return leaves

    def withdraw(self, claim: Claim) -> None:
        """Wait no longer; nothing if it does not."""
        self._waiting.pop(claim, None)

    def next(self, now: float) -> Claim | None:
        """Whose turn it is, given a free worker; it has its place from now on. ``None``: nobody's who may have one."""
        long_free = len(self._long) < self.long_places
        short_free = len(self._short) < self.short_places
        able = [claim for claim in self._waiting if long_free or (short_free and not claim.long)]
        if not able:
            return None

        def turn(claim: Claim) -> tuple[bool, float, float, int]:
            lets_others_ahead = not (long_free or claim.short or now - claim.since >= KNOWN_GO_AHEAD_S)
            return lets_others_ahead, *self._turn(claim, now)

        claim = min(able, key=turn)
        del self._waiting[claim]
        claim.place = "long" if long_free else "short"
        (self._long if long_free else self._short).add(claim)
        return claim

    def outgrows(self, claim: Claim) -> bool:
        """It is too long for its short place. True: it has a long one now. False: it must begin anew, elsewhere."""
        if claim.place != "short":
            return True
        if len(self._long) >= self.long_places:
            return False
        self._short.remove(claim)
        self._long.add(claim)
        claim.place = "long"
        return True

    def anew(self, claim: Claim) -> Claim:
        """The claim of what begins anew: for a long place, and with the turn that it had. The old one says nothing more."""
        text, claim.text = claim.text, b""
        return Claim(claim.caller, text, long=True, arrived=claim.arrived, since=claim.since)

    def charge(self, claim: Claim, used_s: float, now: float) -> None:
        """It has used so much of the engine by now, since it began."""
        more_s, claim.used_s = used_s - claim.used_s, used_s
        if more_s > 0:
            for user in _users(claim.caller):
                self._use.setdefault(user, _Use()).add(more_s, now)
                self._use.move_to_end(user)
            while len(self._use) > USERS_REMEMBERED_MAX:
                self._use.popitem(last=False)

    def end(self, claim: Claim) -> None:
        """Its place is free, and what it has used in all says what to expect of its text."""
        (self._short if claim.place == "short" else self._long).discard(claim)
        claim.place = "none"
        if not claim.text or not claim.used_s:
            return
        if claim.used_s > KNOWN_LONG_S or claim.large:
            self._was_long[claim.text] = True
        elif claim.used_s < OUTGROWN_AFTER_CPU_S:
            self._was_long[claim.text] = False
        else:
            return
        self._was_long.move_to_end(claim.text)
        if len(self._was_long) > KNOWN_MAX:
            self._was_long.popitem(last=False)

    def _turn(self, claim: Claim, now: float) -> tuple[float, float, int]:
        identity, connection = (self._used_by(user, now) for user in _users(claim.caller))
        return identity, connection, claim.arrived

    def _used_by(self, user: tuple[str, str | None], now: float) -> float:
        use = self._use.get(user)
        seconds = 0.0 if use is None else use.by(now)
        return seconds if seconds > USE_IS_LITTLE_S else 0.0

    def _one_too_many(self, newcomer: Claim) -> Claim:
        waiting: dict[tuple[str, str | None], list[Claim]] = {}
        for claim in self._waiting:
            waiting.setdefault(_users(claim.caller)[1], []).append(claim)
        most = max(waiting.values(), key=len)
        if len(most) <= len(waiting.get(_users(newcomer.caller)[1], ())) + 1:
            raise LimitExceededError(f"the server is busy: {len(self._waiting)} requests wait already; try again")
        return max(most, key=lambda claim: claim.arrived)


def _users(caller: Caller) -> tuple[tuple[str, str | None], tuple[str, str | None]]:
    """Whose use it is: the identity's and, within it, the connection's."""
    return (caller.name, None), (caller.name, caller.connection)
