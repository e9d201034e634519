"""The local principals: made once with random tokens, so that no secret is written in the code."""

import json
import secrets
import sys
from pathlib import Path

from mainstem.cli.local.home import write_private

#: On a local platform everybody may replay history: say at which recorded time a command was given.
ROLES = {name: (name, "replay") for name in ("operator", "builder", "approver")}


def ensure(path: Path) -> None:
    """Write the token file if there is none: a JSON list of name, roles and token, for the owner only."""
    if path.exists():
        return
    lines = [{"name": name, "roles": list(roles), "token": secrets.token_urlsafe(32)} for name, roles in ROLES.items()]
    write_private(path, json.dumps(lines, indent=2) + "\n")


if __name__ == "__main__":
    ensure(Path(sys.argv[1]))
