"""Errors by what becomes of them.

MainstemError
├── Rejected     the input is wrong and will stay wrong: park it, say why, go on
│   └── Undecodable   not even an event of ours
├── Conflict     somebody else changed the same thing first: read again and decide again
└── Unavailable  something outside did not answer: try again later, lose nothing
"""

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from pydantic import ValidationError


#: What decoding raises for bytes that are not the document that is wanted: of another form, no UTF-8, or too deep.
NO_DOCUMENT: Final = (msgspec.MsgspecError, ValueError, RecursionError)


class MainstemError(Exception):
    """The root of the errors that the platform raises on purpose."""


class Rejected(MainstemError):
    """The input is wrong; a second try would fail alike."""


class Undecodable(Rejected):
    """The record is not an event of the catalogue, or its payload does not fit its type."""


class Conflict(MainstemError):
    """The stream moved on between read and write; decide again on the new state."""


class Unavailable(MainstemError):
    """A broker, database or store did not answer in time; nothing was acknowledged."""


def faults(error: "ValidationError") -> str:
    """Return the faults of a document in one line, each with its place."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'document'}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors()
    )
