"""``lakeflight keys``: makes, lists and revokes API keys in the database of a lake, whether its server runs or not.

A key is printed once, to standard output alone; nothing that is kept anywhere says what it was.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import re
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from lakehouse.catalog.connect import close_pool, open_pool
from lakehouse.catalog.keys import ListedKey, StoredKeys
from lakehouse.catalog.migrate import migrate
from lakehouse.model import KeyUse
from server.access.identities import KNOWN_S
from server.access.keys import HINT_CHARS, NAME, digest_of, new_key
from server.data_folder import DataFolder, DataFolderInUseError
from server.embedded_postgres import EmbeddedPostgres, url_of_running
from server.settings import Settings

_LETTERS: Final = {KeyUse.READER: "r", KeyUse.WRITER: "w"}
_ID: Final = re.compile(r"([rw])([0-9]{1,18})", re.ASCII)
_LASTING: Final = re.compile(r"([0-9]{1,6})([dh])", re.ASCII)
EXPIRES_DEFAULT: Final = "90d"
NEVER: Final = "never"
_HEADINGS: Final = ("id", "name", "key", "state", "created", "by", "expires", "last used")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows ``lakeflight keys``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print it, once")
    create.add_argument("name", type=_name, help="whose it is; keys of one name are one identity")
    create.add_argument(
        "--for", dest="use", required=True, choices=[use.value for use in KeyUse], help="who asks, or who sends"
    )
    create.add_argument(
        "--expires",
        type=_lasting,
        default=EXPIRES_DEFAULT,
        metavar="PERIOD",
        help=f"how long it may be used: 12h, 30d or {NEVER}; {EXPIRES_DEFAULT} if not given",
    )
    actions.add_parser("list", help="say of every key what it was for, and whether it may still be used")
    revoke = actions.add_parser("revoke", help="end keys")
    revoke.add_argument("ids", type=_id, nargs="+", metavar="ID", help="as the list has them: r1, w3")
    for action in actions.choices.values():
        action.add_argument("--data-dir", metavar="DIR", help="the data folder of the server")
        action.add_argument("--postgres-url", metavar="URL", help="the database, where it is not in the data folder")


async def run_keys(given: argparse.Namespace, settings: Settings) -> int:
    """Do what was typed; the exit code."""
    async with _connected(settings) as pool:
        keys = {use: StoredKeys(pool, use) for use in KeyUse}
        match given.action:
            case "create":
                return await _create(keys[KeyUse(given.use)], KeyUse(given.use), given.name, given.expires)
            case "list":
                return _print([key for stored in keys.values() for key in await stored.list()])
            case _:
                return await _revoke(keys, given.ids)


async def _create(keys: StoredKeys, use: KeyUse, name: str, lasting: timedelta | None) -> int:
    secret = new_key(use)
    made = await keys.add(name, digest_of(secret.encode()), secret[:HINT_CHARS], _user(), lasting)
    print(secret, flush=True)
    until = "for ever" if made.expires_at is None else f"until {_time(made.expires_at)}"
    print(
        f"{_spelled(made)}: a {use.value}'s key of {name}, {until}. It is not shown again. Servers take it where"
        " identities are required (--identities required).",
        file=sys.stderr,
    )
    return 0


async def _revoke(keys: dict[KeyUse, StoredKeys], ids: Sequence[tuple[KeyUse, int]]) -> int:
    code = 0
    for use, key_id in ids:
        name = await keys[use].revoke(key_id)
        if name is None:
            print(
                f"lakeflight: there is no key {_LETTERS[use]}{key_id}: lakeflight keys list has them", file=sys.stderr
            )
            code = 1
        else:
            print(f"{_LETTERS[use]}{key_id} of {name} is revoked; servers that know it take it for {KNOWN_S:g} s more")
    return code


def _print(keys: Sequence[ListedKey]) -> int:
    now = datetime.now().astimezone()
    rows = [_HEADINGS, *(_row(key, now) for key in keys)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(key: ListedKey, now: datetime) -> tuple[str, ...]:
    state = "good"
    if key.revoked_at is not None:
        state = f"revoked {_time(key.revoked_at)}"
    elif key.expires_at is not None and key.expires_at <= now:
        state = "expired"
    expires = NEVER if key.expires_at is None else _time(key.expires_at)
    used = NEVER if key.last_used_at is None else _time(key.last_used_at)
    hint = f"{key.hint}..."
    return (_spelled(key), key.name, hint, state, _time(key.created_at), key.created_by, expires, used)


@contextlib.asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Any]:
    """A pool of the lake's database, which has the schema of this version."""
    async with contextlib.AsyncExitStack() as closing:
        url = settings.postgres_url or await _embedded(settings, closing)
        await migrate(url)
        pool = await open_pool(url, connections_max=1)
        closing.push_async_callback(close_pool, pool)
        yield pool


async def _embedded(settings: Settings, closing: contextlib.AsyncExitStack) -> str:
    """The URL of the database in the data folder: the running server's, or started for as long as it is needed."""
    folder = DataFolder(settings.data_dir)
    try:
        folder.acquire()
    except DataFolderInUseError:
        if (url := url_of_running(folder.postgres)) is None:
            raise
        return url
    closing.callback(folder.release)
    postgres = EmbeddedPostgres(folder.postgres)
    closing.push_async_callback(postgres.stop)
    await postgres.start()
    return postgres.url


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("a name has letters, digits and . _ @ -, 64 at most")
    return text


def _lasting(text: str) -> timedelta | None:
    if text == NEVER:
        return None
    match = _LASTING.fullmatch(text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"write 12h, 30d or {NEVER}, not {text[:20]}")
    count = int(match[1])
    return timedelta(days=count) if match[2] == "d" else timedelta(hours=count)


def _id(text: str) -> tuple[KeyUse, int]:
    match = _ID.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text[:20]} is no id of a key: they are r1, w3 and so on")
    return next(use for use, letter in _LETTERS.items() if letter == match[1]), int(match[2])


def _spelled(key: ListedKey) -> str:
    return f"{_LETTERS[key.use]}{key.key_id}"


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%MZ}"  # the database answers in UTC


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in containers
        return "unknown"
