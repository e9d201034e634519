"""Signed notes: a text, and who vouches for it (https://c2sp.org/signed-note)."""

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self, TypeVar

KEY_ID_BYTES: Final = 4
_NUMBER: Final = re.compile("0|[1-9][0-9]{0,18}", re.ASCII)
#: Nobody signs a note so often; what has more is not looked at.
MOST_SIGNATURES: Final = 100

_DASH: Final = "\u2014 "


class NoteError(ValueError):
    """What is no signed note, or one that is not signed as it should be."""


class Verifier(Protocol):
    """A key that knows the signatures of somebody."""

    @property
    def name(self) -> str:
        """Return whose key it is."""

    @property
    def key_id(self) -> bytes:
        """Return the four bytes by which it is told from other keys of that name."""

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Tell whether the signature of a text is of this key; never raises."""


V = TypeVar("V", bound=Verifier)


@dataclass(frozen=True, slots=True)
class Signature:
    """What stands below a note: whose key, which of them, and what that key made of the text."""

    name: str
    key_id: bytes
    value: bytes

    def line(self) -> str:
        """Return the line, with its newline."""
        return f"{_DASH}{self.name} {b64encode(self.key_id + self.value).decode()}\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line without its newline; raises NoteError."""
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        data = decode(encoded)
        if not (line.startswith(_DASH) and space and is_name(name) and data and len(data) > KEY_ID_BYTES):
            raise NoteError(f"{line!r} is no signature line; it reads: dash, name, base64 of key id and signature")
        return cls(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends with a newline, and its signatures."""

    text: str
    signatures: tuple[Signature, ...]

    def render(self) -> bytes:
        """Return the note as it travels."""
        return f"{self.text}\n{''.join(each.line() for each in self.signatures)}".encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `render` wrote; raises NoteError."""
        try:
            whole = data.decode()
        except UnicodeDecodeError as fault:
            raise NoteError("a note is UTF-8; this is not") from fault
        if any(character < " " and character != "\n" for character in whole):
            raise NoteError("a note holds no control characters but newlines; this one does")
        text, blank, below = whole.rpartition("\n\n")
        lines = below.split("\n")
        if not (blank and text and lines.pop() == "" and lines):
            raise NoteError("a note is a text, an empty line, and signature lines that end with a newline")
        if len(lines) > MOST_SIGNATURES:
            raise NoteError(f"the note has {len(lines)} signatures; {MOST_SIGNATURES} are the most that are read")
        return cls(f"{text}\n", tuple(Signature.parse(line) for line in lines))

    def signed_by(self, keys: Sequence[V]) -> dict[V, Signature]:
        """Return those of the keys that have signed, each with its first signature; others' are passed over.

        Raises NoteError when none has, or when a signature under the name and id of one of them is not its own.
        """
        known = {(key.name, key.key_id): key for key in keys}
        found: dict[V, Signature] = {}
        for signature in self.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None or key in found:
                continue
            if not key.verify(self.text.encode(), signature.value):
                raise NoteError(f"the signature of {key.name} is not of its key: the note or the signature was changed")
            found[key] = signature
        if not found:
            raise NoteError(
                f"the note is signed by none of {', '.join(sorted({key.name for key in keys})) or 'no key'}"
            )
        return found


def is_name(name: str) -> bool:
    """Tell whether a key may be called so: some characters, none of them a space or a plus."""
    return bool(name) and "+" not in name and not any(character.isspace() for character in name)


def decode(text: str) -> bytes | None:
    """Return what a base64 text stands for; None when it is none, or another text stands for the same."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return None
    return data if b64encode(data).decode() == text else None


def number(text: str) -> int | None:
    """Return a size or an index as such texts write it; None for anything else, be it too large for any tree."""
    return int(text) if _NUMBER.fullmatch(text) else None
