"""Where commands find the platform: the environment first, then the local platform's own files."""

import json
import os
import shlex
from pathlib import Path

from mainstem.cli.local.errors import LocalError
from mainstem.cli.local.home import find_home


def setting(name: str) -> str:
    """Return a `MAINSTEM_…` setting, as `MAINSTEM_REGISTRY_URL`, from the environment or else the local platform.

    Raises NotRunning when there is neither, LocalError when the platform has no such setting.
    """
    if name in os.environ:
        return os.environ[name]
    file = find_home(Path.cwd()).env
    settings = dict(shlex.split(line)[1].split("=", 1) for line in file.read_text(encoding="utf-8").splitlines())
    if name not in settings:
        raise LocalError(f"{name} is neither in the environment nor in {file}; set it, or start all services")
    return settings[name]


def token(principal: str) -> str:
    """Return the token to call with: `MAINSTEM_TOKEN`, or else that of a principal of the token file.

    Raises NotRunning when there is neither, LocalError when the file does not know the principal.
    """
    if given := os.environ.get("MAINSTEM_TOKEN"):
        return given
    file = Path(setting("MAINSTEM_PRINCIPALS"))
    tokens = {line["name"]: str(line["token"]) for line in json.loads(file.read_text(encoding="utf-8"))}
    if principal not in tokens:
        raise LocalError(f"no principal {principal!r} in {file}; there are: {', '.join(tokens)}; or set MAINSTEM_TOKEN")
    return tokens[principal]
