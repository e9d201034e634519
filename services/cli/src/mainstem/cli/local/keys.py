"""The local keys of the log and of its witness: made once at random, so that no secret is written in the code."""

import secrets
import sys
from pathlib import Path
from typing import Final

from mainstem.cli.local.home import write_private
from mainstem.ledger.keys import Secret

#: By role: under which name it signs. The log's is its origin.
NAMES: Final = {"log": "mainstem.local/log", "witness": "mainstem.local/witness"}


def files(folder: Path) -> dict[str, Path]:
    """Return the files of the keys in a folder by the settings that name them."""
    kinds = ("secret", "vkey")
    return {f"MAINSTEM_{role}_{kind}".upper(): folder / f"{role}.{kind}" for role in NAMES for kind in kinds}


def ensure(role: str, secret: Path, vkey: Path) -> None:
    """Make the secret key of a role if there is none, for the owner only, and write down its public key."""
    if not secret.exists():
        secret.parent.mkdir(parents=True, exist_ok=True)
        write_private(secret, Secret(NAMES[role], secrets.token_bytes(32)).render() + "\n")
    made = Secret.parse(secret.read_text())
    key = made.log_key if role == "log" else made.witness_key
    vkey.parent.mkdir(parents=True, exist_ok=True)
    vkey.write_text(key.vkey() + "\n")


def ensure_all(folder: Path) -> None:
    """Make what is missing of all keys in a folder."""
    found = files(folder)
    for role in NAMES:
        ensure(role, found[f"MAINSTEM_{role.upper()}_SECRET"], found[f"MAINSTEM_{role.upper()}_VKEY"])


if __name__ == "__main__":
    ensure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
