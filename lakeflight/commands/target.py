"""Where the rows of an answer go: standard output, or a file that is there when it is complete."""

from __future__ import annotations

import io
import os
import secrets
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final, TextIO

if TYPE_CHECKING:
    import pyarrow as pa

    from lakeflight.output import Writer

COLUMN_WIDTH_ON_TERMINAL: Final = 80


class Target:
    """Where rows go: standard output, or a file that appears when it is complete.

    A link is followed, and the file behind it replaced. What is no regular file is written into: a FIFO or a device that
    was replaced would be lost, and cannot be complete or not at all.
    """

    def __init__(self, output: str | None, format_name: str, column_width_max: int | None) -> None:
        self._output = output
        self._format = format_name
        self._column_width_max = column_width_max
        self._path: str | None = None  # of the file to replace
        self._temporary: str | None = None
        self._file: BinaryIO | None = None
        self._text: TextIO | None = None

    def __enter__(self) -> Target:
        return self

    def _open(self, path: str) -> BinaryIO:
        try:
            there = os.stat(path)
        except FileNotFoundError:
            there = None
        if there is not None and not stat.S_ISREG(there.st_mode):
            return open(path, "wb")
        self._path = os.path.realpath(path)
        self._temporary = f"{self._path}.{secrets.token_hex(4)}.part"
        fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if there is not None:
            with suppress(PermissionError):  # somebody else's file becomes ours, as with any editor
                os.chown(fd, there.st_uid, there.st_gid)
            os.chmod(fd, there.st_mode & 0o777)
        return open(fd, "wb")

    def writer(self, schema: pa.Schema) -> Writer:
        from lakeflight import output

        if self._output is not None:
            self._file = self._open(self._output)  # closed by __exit__
        binary: BinaryIO = self._file if self._file is not None else sys.stdout.buffer
        if self._format in output.BINARY_FORMATS:
            is_read_as_it_comes = self._format == "arrow" and self._path is None  # a file's index would be out of reach
            return output.binary_writer("arrows" if is_read_as_it_comes else self._format, schema, binary)
        if self._file is not None:
            self._text = io.TextIOWrapper(binary, encoding="utf-8", newline="", errors="replace")
        else:
            self._text = sys.stdout
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", errors="replace")
        width = self._column_width_max
        if width is None:
            width = COLUMN_WIDTH_ON_TERMINAL if self._file is None and sys.stdout.isatty() else 0
        return output.text_writer(self._format, schema, self._text, column_width_max=width)

    def keep(self) -> None:
        if self._text is not None:
            self._text.flush()
        if self._file is None:
            sys.stdout.flush()
            return
        self._file.flush()
        if self._path is not None and self._temporary is not None:
            os.replace(self._temporary, self._path)
            self._temporary = None

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            with suppress(OSError):
                os.unlink(self._temporary)
        if self._file is not None:
            with suppress(OSError, ValueError):
                self._file.close()
