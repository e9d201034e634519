"""What people ask training for, and how they name it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from mainstem.auth import Principal
from mainstem.runtime import Problem

_LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody asks for, and when: a model, of a definition of its project, as of a cut."""

    id: str
    principal: Principal
    model: str
    project: str
    definition: str
    cut: str
    recorded_us: int
    #: The dataset that is to be built anew.
    again: str | None = None


def command_id(body: Mapping[str, object]) -> str:
    """Return the id that a command was given, or a new one; raise Problem 400 when it is too long."""
    id_ = str(body.get("command_id") or uuid4().hex)
    if len(id_) > _LONGEST_ID:
        raise Problem(400, "malformed_body", f"command_id has {len(id_)} characters, at most {_LONGEST_ID}")
    return id_


def now_us() -> int:
    """Return the time at which a command comes that says none, in microseconds since 1970."""
    return time.time_ns() // 1000


def only(wanted: str, names: Sequence[str]) -> str:
    """Return the one name that begins like that, `sha256:` or not; raise Problem 404 when there is not one."""
    found = [name for name in names if name.startswith(wanted) or name.removeprefix("sha256:").startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        detail = f"no dataset and no request begins with {wanted!r}; list them with `mainstem dataset list`"
    else:
        several = f"{len(found)} datasets and requests begin with {wanted!r}"
        detail = f"{several}: {', '.join(found[:5])}; give more of the id"
    raise Problem(404, "unknown_dataset", detail)
