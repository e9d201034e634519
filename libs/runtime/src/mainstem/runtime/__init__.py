"""What every service process is made of.

Each is loaded by who asks for it: a process that only reads its settings needs no server and no broker.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstem.runtime.control import Piece, consume, keep_running, load_fence, restart_when
    from mainstem.runtime.http import Problem, authenticate, body_bytes, identify, json_body, problem
    from mainstem.runtime.process import run, steadily
    from mainstem.runtime.service import Resources, Task, open_resources, serve
    from mainstem.runtime.settings import ServiceSettings

#: What is loaded by who asks for it, and from where.
_LATE = {
    "Piece": "control",
    "consume": "control",
    "keep_running": "control",
    "load_fence": "control",
    "restart_when": "control",
    "Problem": "http",
    "authenticate": "http",
    "body_bytes": "http",
    "identify": "http",
    "json_body": "http",
    "problem": "http",
    "run": "process",
    "steadily": "process",
    "Resources": "service",
    "Task": "service",
    "open_resources": "service",
    "serve": "service",
    "ServiceSettings": "settings",
}

__all__ = [
    "Piece",
    "Problem",
    "Resources",
    "ServiceSettings",
    "Task",
    "authenticate",
    "body_bytes",
    "consume",
    "identify",
    "json_body",
    "keep_running",
    "load_fence",
    "open_resources",
    "problem",
    "restart_when",
    "run",
    "serve",
    "steadily",
]

if not TYPE_CHECKING:  # for a type checker what is missing is missing

    def __getattr__(name: str) -> object:
        """Load what is asked for (PEP 562)."""
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
        globals()[name] = found
        return found
