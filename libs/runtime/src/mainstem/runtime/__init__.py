"""What every service process is made of."""

from mainstem.runtime.control import Piece, consume, keep_running, load_fence, restart_when
from mainstem.runtime.http import Problem, authenticate, body_bytes, identify, json_body, problem
from mainstem.runtime.service import Resources, Task, open_resources, run, serve, steadily
from mainstem.runtime.settings import ServiceSettings

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
