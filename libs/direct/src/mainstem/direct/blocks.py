"""Blocks of headers: HPACK (RFC 7541) without a table, and what HTTP/2 takes as a request (RFC 9113, 8.2 and 8.3).

We tell every client that our table has no room. Once it has said so too, a block means the same whatever came before
it, so blocks that were read once are known by their bytes, on every connection.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

import hpack

from mainstem.direct.frames import Code, ConnectionFault

Fields = list[tuple[bytes, bytes]]
Head = TypeVar("Head")

#: So many blocks are known, each of so many bytes at most.
_MOST_KNOWN, _KNOWN_BYTES = 1_000, 2_048
#: What a block may begin with: a change of the table's size; below this one it is 0, from that one on it is none.
_NO_TABLE, _NO_CHANGE = b"\x20", b"\x40"
_NAME: Final = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_NO_VALUE: Final = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]$")
_PSEUDO: Final = {b":method", b":scheme", b":path", b":authority"}
_NEEDED: Final = {b":method", b":scheme", b":path"}
_OF_CONNECTIONS: Final = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}


class Malformed(Exception):
    """The fields of a block are no request, or no trailers, of HTTP/2."""


class Known(Generic[Head]):
    """What blocks said that were read before, by their bytes, for all connections together."""

    def __init__(self, parse: Callable[[Fields], Head]) -> None:
        #: Returns what fields say. Raises Malformed.
        self.parse = parse
        self.heads: dict[bytes, Head] = {}

    def remember(self, block: bytes, said: Head) -> None:
        """Know a block when it comes again."""
        if len(block) <= _KNOWN_BYTES:
            if len(self.heads) >= _MOST_KNOWN:
                self.heads.clear()
            self.heads[block] = said


class BlockReader(Generic[Head]):
    """Reads the blocks of one connection, each of them, in their order."""

    def __init__(self, known: Known[Head], most_bytes: int) -> None:
        self._known = known
        self._decoder = hpack.Decoder(max_header_list_size=most_bytes)
        #: The client has heard that there is no table; and its blocks do without one.
        self.acknowledged = self._stateless = False

    def head(self, block: bytes) -> Head:
        """Return what a request begins with. Raises Malformed, or ConnectionFault for what is no HPACK or too much."""
        if self._stateless:
            said = self._known.heads.get(block)
            if said is not None:
                return said
        said = self._known.parse(self.fields(block))
        if self._stateless:
            self._known.remember(block, said)
        return said

    def fields(self, block: bytes) -> Fields:
        """Return the fields of a block. Raises ConnectionFault for what is no HPACK, or too much."""
        first = block.lstrip(_NO_TABLE)[:1]
        if self.acknowledged and _NO_TABLE < first < _NO_CHANGE:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a table that was given up")
        try:
            found: Fields = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError as fault:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too many") from fault
        except (hpack.HPACKError, UnicodeDecodeError) as fault:
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"headers that are no HPACK: {fault}") from fault
        self._stateless = self.acknowledged and self._decoder.header_table_size == 0
        return found


def check_request(fields: Fields) -> dict[bytes, bytes]:
    """Return the fields of a request by name, the last of a name. Raises Malformed."""
    names = [name for name, _ in fields]
    pseudo = [name for name in names if name.startswith(b":")]
    _check(fields)
    if set(pseudo) - _PSEUDO or len(set(pseudo)) != len(pseudo) or names[: len(pseudo)] != pseudo:
        raise Malformed("pseudo-headers that are unknown, double, or behind others")
    found = dict(fields)
    if found.get(b":method") != b"CONNECT" and (_NEEDED - set(pseudo) or not found[b":path"]):
        raise Malformed("a request without method, scheme or path")
    return found


def check_trailers(fields: Fields) -> None:
    """Raise Malformed unless these may stand behind a body."""
    _check(fields)
    if any(name.startswith(b":") for name, _ in fields):
        raise Malformed("pseudo-headers behind a body")


def _check(fields: Fields) -> None:
    for name, value in fields:
        if not _NAME.fullmatch(name) or _NO_VALUE.search(value):
            raise Malformed("a header that is none")
        if name in _OF_CONNECTIONS or (name == b"te" and value.lower() != b"trailers"):
            raise Malformed("a header that is for one connection of HTTP/1.1")


def encoded(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a block: literals as they are, in nobody's table."""
    return b"".join(b"\x00%b%b%b%b" % (_length(name), name, _length(value), value) for name, value in fields)


def _length(text: bytes) -> bytes:
    """Return a length as HPACK has it: 7 bits, then what is more in groups of 7."""
    if len(text) < 127:
        return bytes((len(text),))
    more, found = len(text) - 127, bytearray((127,))
    while more > 127:
        found.append(more & 127 | 128)
        more >>= 7
    found.append(more)
    return bytes(found)
