"""The sentences of the suite: what each says, through which clients it is tried, and on which targets.

A sentence is written once, for one client that it is given. This module and those with the checks load no client: they
are read where the tests are listed, and run in a process of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Values = npt.NDArray[Any]

#: What is tried: the service with a worker, and `serve --dev`.
MANAGED, DEV = "managed", "dev"
#: The same models behind gRPC on our own frames.
FAST = {MANAGED: "managed_fast", DEV: "dev_fast"}
#: tritonclient, unmodified, each with tensors as raw bytes.
TRITON = ("http", "http.aio", "grpc", "grpc.aio")
#: The same with tensors as JSON, and the generated stubs with typed contents.
JSON, TYPED = "json", "typed"
EVERY = (*TRITON, JSON, TYPED)
#: HTTP and gRPC for what no client can say: requests as they are sent, and messages as the stubs have them.
CURL, STUBS = "curl", "stubs"
#: Clients of each transport.
HTTP, GRPC = {"http", "http.aio", JSON, CURL}, {"grpc", "grpc.aio", TYPED, STUBS}

#: What a check is given: every kind of client has the same methods, of its own author's types.
Client = Any
#: Raises AssertionError where a server does not do what the sentence says.
Check = Callable[[Client], None]


@dataclass(frozen=True)
class Sentence:
    """One rule of the protocol, or of its extensions."""

    text: str
    check: Check
    clients: tuple[str, ...]
    targets: tuple[str, ...]
    #: It takes calls with streams, which our own frames do not carry.
    streams: bool


SENTENCES: dict[str, Sentence] = {}


def says(
    text: str, *clients: str, on: tuple[str, ...] = (MANAGED, DEV), streams: bool = False
) -> Callable[[Check], Check]:
    """Enter a check of a sentence."""

    def enter(check: Check) -> Check:
        if text in SENTENCES:
            raise ValueError(f"{text!r} is said twice")
        SENTENCES[text] = Sentence(text, check, clients, on, streams)
        return check

    return enter


def trials() -> list[tuple[str, str, str]]:
    """Return target, client and text of everything that is to be tried."""
    return [
        (target, client, sentence.text)
        for sentence in SENTENCES.values()
        for client in sentence.clients
        for target in _targets(sentence, client)
    ]


def _targets(sentence: Sentence, client: str) -> list[str]:
    """Return where a client tries a sentence."""
    fast = client in GRPC and not sentence.streams
    return [*sentence.targets, *(FAST[target] for target in sentence.targets if fast and target in FAST)]


class Refused(Exception):
    """The server does not answer; `status` is gRPC's name of the reason on either transport."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


@dataclass(frozen=True)
class Input:
    """An input, and what it says of itself where that is not so."""

    name: str
    values: Values
    shape: Sequence[int] | None = None
    datatype: str | None = None


def refused(status: str, act: Callable[..., object], *arguments: object, **said: object) -> str:
    """Return the message with which something is refused, for this reason and no other."""
    try:
        found = act(*arguments, **said)
    except Refused as fault:
        assert fault.status == status, fault
        assert fault.message, "no word of why"
        return fault.message
    raise AssertionError(f"not refused but {found}")
