"""Identities. Ids are derived, never drawn, so that work done twice names its results alike."""

from hashlib import blake2b, sha256


def child_id(cause: str, name: str) -> str:
    """Return the id of what `name` makes of the event `cause`: 32 hexadecimal digits, equal for equal arguments."""
    return blake2b(f"{name}\0{cause}".encode(), digest_size=16).hexdigest()


def content_id(content: bytes) -> str:
    """Return the address of `content` in the artifact store: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{sha256(content).hexdigest()}"


def fingerprint(content: bytes) -> int:
    """Return 56 bits of a digest of `content`; sums of fingerprints compare sets whatever their order."""
    return int.from_bytes(blake2b(content, digest_size=7).digest(), "big")
