"""Bodies of HTTP, packed and not, and errors as the protocol has them."""

import zlib
from collections.abc import Mapping

import orjson

from mainstem.events.errors import MainstemError
from mainstem.inference.errors import BadRequest, NoAnswer, NotReady, TooLarge, Unknown
from mainstem.runtime.http import MAX_BODY_BYTES

STATUS: dict[type[MainstemError], int] = {TooLarge: 413, BadRequest: 400, Unknown: 404, NotReady: 503, NoAnswer: 500}
#: A smaller answer travels faster than it is packed.
_PACK_FROM = 1024
#: `zlib` takes both of its own forms, with either header.
_ANY_HEADER = 47
_GZIP_HEADER = 31


def unpacked(body: bytes, encoding: str | None) -> bytes:
    """Return a body as it was before it was packed. Raises BadRequest, or TooLarge."""
    if encoding in (None, "", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise BadRequest(f"content encoding {encoding!r} is not taken; send gzip, deflate or none")
    stream = zlib.decompressobj(_ANY_HEADER)
    try:
        content = stream.decompress(body, MAX_BODY_BYTES)
    except zlib.error as fault:
        raise BadRequest(f"the body is not {encoding}: {fault}") from fault
    if not stream.eof:
        raise TooLarge(f"the body is cut short, or has more than {MAX_BODY_BYTES} bytes when unpacked")
    return content


def packed(content: bytes, headers: Mapping[str, str], accepted: str) -> tuple[bytes, Mapping[str, str]]:
    """Return a body and its headers, packed in a way that is accepted if that is worth it."""
    if len(content) < _PACK_FROM or ("gzip" not in accepted and "deflate" not in accepted):
        return content, headers
    if "gzip" in accepted:
        return zlib.compress(content, 1, _GZIP_HEADER), {**headers, "content-encoding": "gzip"}
    return zlib.compress(content, 1), {**headers, "content-encoding": "deflate"}


def refused(fault: MainstemError) -> tuple[int, bytes]:
    """Return status and body of an error."""
    status = next((status for kind, status in STATUS.items() if isinstance(fault, kind)), 500)
    return status, orjson.dumps({"error": str(fault)})
