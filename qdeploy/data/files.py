"""Data files as text, block by block: memory is that of a block and of the longest line."""

from __future__ import annotations

import abc
import codecs
import contextlib
import errno
import io
import itertools
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from qdeploy.errors import DataError

BLOCK = 1 << 18  # bytes of one read
# Characters of a line or of a CSV field. No row is as long; a file without line ends, or with one
# quotation mark too few, is, and would fill the memory.
LONGEST = 1 << 28

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class TextSource(abc.ABC):
    """Lines of text from something that gives bytes.

    Attributes:
        path: of the source, or its name, for error texts.
        once: it can be read a single time, from its start to its end.
    """

    path: Path | str
    once = False

    @abc.abstractmethod
    def raw(self) -> Iterator[bytes]:
        """The bytes, block by block."""

    def check(self) -> None:
        """Refuse what was read while it changed: nothing that is read once can be told to.

        Raises:
            DataError: it changed.
        """
        return

    def blocks(self) -> Iterator[str]:
        """The text with its line ends untouched, without a byte-order mark.

        Raises:
            DataError: bytes that are not UTF-8, with their line; an unreadable or changing file.
        """
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        line = 1
        for raw in itertools.chain(self.raw(), (b"",)):
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                # the object may begin with bytes of the block before, none of them a line end
                yield bytes(error.object[: error.start]).decode()
                at = line + error.object.count(b"\n", 0, error.start)
                raise DataError(
                    f"{self.path}, line {at}: byte 0x{error.object[error.start]:02x} is not "
                    "UTF-8. Save the file as UTF-8."
                ) from None
            line += raw.count(b"\n")
            yield text

    def lines(self, ends: str = "\n") -> Iterator[str]:
        """Lines with their ends.

        Args:
            ends: LF, or "" for LF, CR LF and CR, as `open` takes it.

        Raises:
            DataError: of `blocks`; a line without an end in sight.
        """
        parts: list[str] = []
        number = 1
        for block in self.blocks():
            # a CR that ended the block before was a line end of its own, or half of CR LF
            split = not ends and block and parts and parts[-1].endswith("\r")
            if split and not block.startswith("\n"):
                yield "".join(parts)
                parts, number = [], number + 1
            lines = list(io.StringIO(block, newline=ends))
            rest = lines.pop() if lines and not lines[-1].endswith("\n") else None
            for line in lines:
                yield "".join((*parts, line)) if parts else line
                parts, number = [], number + 1
            if rest is not None:
                parts.append(rest)
            if sum(map(len, parts)) > LONGEST:
                raise DataError(
                    f"{self.path}, line {number}: longer than {LONGEST} characters. No row is as "
                    "long: check that the file holds lines of text, one row each."
                )
        if parts:
            yield "".join(parts)


class DataFile(TextSource):
    """A regular file that may be read several times and must stay as it is meanwhile.

    Pipes are refused: formats go by suffix, and a sample reads its rows twice.

    Attributes:
        path: of the file.

    Raises:
        DataError: it is none, is not there or cannot be opened.
    """

    path: Path

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as stream:
            self._stamp = _stamp(stream)

    def open(self) -> BinaryIO:
        """The bytes from their start.

        Raises:
            DataError: it cannot be opened, or is another than before.
        """
        stream = self._opened()
        try:
            self._compare(_stamp(stream))
        except DataError:
            stream.close()
            raise
        return stream

    def check(self) -> None:
        """Refuse what was read from a file that somebody wrote to at the same time.

        Raises:
            DataError: it changed.
        """
        self.open().close()

    def raw(self) -> Iterator[bytes]:
        """The bytes, block by block.

        Raises:
            DataError: an unreadable or changing file.
        """
        with self.open() as stream:
            while block := self._read(stream):
                yield block
            self._compare(_stamp(stream))

    def _read(self, stream: BinaryIO) -> bytes:
        try:
            return stream.read(BLOCK)
        except OSError as error:
            raise unreadable(self.path, error) from error

    def _opened(self) -> BinaryIO:
        try:
            _require_file(self.path, self.path.stat())
            # should a pipe take the file's place now, its first read gives nothing and hangs nobody
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            return os.fdopen(os.open(self.path, flags), "rb", buffering=0)
        except (OSError, ValueError) as error:  # a ValueError is a NUL in the name
            raise unreadable(self.path, error) from error

    def _compare(self, found: tuple[int, ...]) -> None:
        if found != self._stamp:
            raise DataError(
                f"{self.path} changed while it was read. Run it again when nothing writes to the "
                "file, or on a copy."
            )


def unreadable(path: Path, error: Exception) -> DataError:
    """What to say of a file that cannot be opened or read; the links it goes through included."""
    number = error.errno if isinstance(error, OSError) else None
    name = str(path)
    if number == errno.ELOOP:
        return DataError(
            f"{path} is a link that leads back to itself. Make the link anew, or name the file."
        )
    if number == errno.ENAMETOOLONG:
        return DataError(
            f"{name[:80]}… ({len(os.fsencode(name))} bytes) is no name that the file system takes: "
            "most take 255 bytes between two slashes. Check the path."
        )
    if number == errno.ENOENT and path.is_symlink():
        return DataError(
            f"{path} is a link to {path.readlink()}, which does not exist. Mend the link, or "
            "name the file."
        )
    if number in (errno.EACCES, errno.EPERM):
        return DataError(
            f"{path} cannot be read: permission denied. Make the file readable, and the "
            "directories above it searchable, for this user."
        )
    if isinstance(error, OSError):
        return DataError(f"{path} cannot be read: {error.strerror or error}.")
    return DataError(f"{name!a:.80} is no file name: {error}. Check the path.")


def _require_file(path: Path, found: os.stat_result) -> None:
    """Refuse what is no regular file.

    Raises:
        DataError: with what it is.
    """
    if stat.S_ISREG(found.st_mode):
        return
    kind = next((word for test, word in _KINDS if test(found.st_mode)), "no file")
    raise DataError(
        f"{path} is {kind}, and rows are read from regular files, since some are read twice. Write "
        "them to a file first, and pass that."
    )


def _stamp(stream: BinaryIO) -> tuple[int, ...]:
    """What changes with the content of a file."""
    found = os.fstat(stream.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Stream(TextSource):
    """Standard input, a pipe or anything else that can be read once.

    A block is what the other side has written so far, so that lines come as they are written.
    """

    once = True

    def __init__(self, stream: BinaryIO, name: str, *, close: bool = True) -> None:
        """Take over a stream.

        Args:
            close: at its end.
        """
        self.path = name
        self._stream, self._close = stream, close

    def raw(self) -> Iterator[bytes]:
        """The bytes, as they come.

        Raises:
            DataError: it cannot be read.
        """
        read = getattr(self._stream, "read1", self._stream.read)
        try:
            while block := read(BLOCK):
                yield block
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        finally:
            if self._close:
                self._stream.close()


def standard_input() -> Stream:
    """Standard input.

    Without Python's buffer where there is a file behind it: a thread that waits there holds the
    buffer's lock, and a process that ends then would be stopped with a fatal error.
    """
    name = "standard input"
    with contextlib.suppress(OSError, ValueError):
        return Stream(os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0), name)
    return Stream(sys.stdin.buffer, name, close=False)
