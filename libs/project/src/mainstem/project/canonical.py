"""One JSON form for one meaning: what a definition is addressed by."""

import hashlib
import json

from pydantic import BaseModel


def canonical(model: BaseModel) -> bytes:
    """Return the model as UTF-8 JSON: keys sorted by code point, no spaces, shortest numbers, nothing left out."""
    document = model.model_dump(mode="json")
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def address(content: bytes) -> str:
    """Return the content address of some bytes, `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
