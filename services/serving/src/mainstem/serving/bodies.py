"""Bodies of HTTP, packed and not, and errors as the protocol has them."""

import re
import zlib
from collections.abc import Mapping
from functools import lru_cache

import orjson

from mainstem.direct import Limits, most_unpacked
from mainstem.events.errors import MainstemError
from mainstem.inference.errors import BadRequest, DeadlineExceeded, NoAnswer, NotReady, TooLarge, Unknown

STATUS: dict[type[MainstemError], int] = {
    TooLarge: 413,
    BadRequest: 400,
    Unknown: 404,
    NotReady: 503,
    DeadlineExceeded: 503,
    NoAnswer: 500,
}
MAX_BODY_BYTES = Limits().body_bytes
#: A smaller answer travels faster than it is packed.
_PACK_FROM = 1024
#: `zlib` takes both of its own forms, with either header.
_ANY_HEADER = 47
#: Its windows with the header of each encoding.
_WINDOWS = {"gzip": 31, "deflate": 15}
#: Says of an encoding that it is not taken.
_NO_WEIGHT = re.compile(r"q=0(\.0*)?")


def unpacked(body: bytes, encoding: str | None) -> bytes:
    """Return a body as it was before it was packed. Raises BadRequest, or TooLarge."""
    encoding = (encoding or "identity").lower()
    if encoding == "identity":
        return body
    if encoding not in _WINDOWS:
        raise BadRequest(f"content encoding {encoding!r} is not taken; send gzip, deflate or none")
    stream = zlib.decompressobj(_ANY_HEADER)
    most = most_unpacked(len(body), MAX_BODY_BYTES)
    try:
        content = stream.decompress(body, most)
    except zlib.error as fault:
        raise BadRequest(f"the body is not {encoding}: {fault}") from fault
    if len(content) == most and not stream.eof:
        raise TooLarge(f"the body has more than {most} bytes when unpacked; send it as it is")
    if not stream.eof:
        raise BadRequest(f"the body is cut short: it does not end as {encoding} does")
    if stream.unused_data:
        raise BadRequest(f"{len(stream.unused_data)} bytes follow what was packed with {encoding}; pack all as one")
    return content


def packed(content: bytes, headers: Mapping[str, str], accepted: str) -> tuple[bytes, Mapping[str, str]]:
    """Return a body and its headers, packed in a way that is accepted if that is worth it."""
    encoding = _chosen(accepted) if len(content) >= _PACK_FROM and accepted else None
    if encoding is None:
        return content, headers
    stream = zlib.compressobj(1, wbits=_WINDOWS[encoding])
    return stream.compress(content) + stream.flush(), {**headers, "content-encoding": encoding}


@lru_cache(maxsize=64)
def _chosen(accepted: str) -> str | None:
    """Return the encoding that an Accept-Encoding takes, gzip before deflate; None for neither."""
    named = {name.strip().lower(): weight for name, _, weight in (one.partition(";") for one in accepted.split(","))}
    weights = {name: weight.replace(" ", "").lower() for name, weight in named.items()}
    return next((name for name in _WINDOWS if name in weights and not _NO_WEIGHT.fullmatch(weights[name])), None)


def refused(fault: MainstemError) -> tuple[int, bytes]:
    """Return status and body of an error."""
    status = next((status for kind, status in STATUS.items() if isinstance(fault, kind)), 500)
    return status, orjson.dumps({"error": str(fault)})
