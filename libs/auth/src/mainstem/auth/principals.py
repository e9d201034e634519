"""Who may do what: principals known by the SHA-256 of a bearer token, roles, and the rights that roles carry."""

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError


class Right(StrEnum):
    """What a call asks for."""

    #: Approve or refuse a model version.
    APPROVE = "approve"
    #: Act on the running platform: promote, roll back, redrive, close an alert.
    OPERATE = "operate"
    #: Apply projects, start runs.
    BUILD = "build"
    #: Say at which time a command became known, as the replay of history needs.
    REPLAY = "replay"


class Role(StrEnum):
    """What a principal is trusted with; the names that stand in the token file."""

    APPROVER = "approver"
    OPERATOR = "operator"
    BUILDER = "builder"
    REPLAYER = "replay"


RIGHTS = {
    Role.APPROVER: Right.APPROVE,
    Role.OPERATOR: Right.OPERATE,
    Role.BUILDER: Right.BUILD,
    Role.REPLAYER: Right.REPLAY,
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A person or a machine, by the name that stands in the log as the actor."""

    name: str
    roles: frozenset[Role]


def allows(principal: Principal, right: Right) -> bool:
    """Tell whether one of the principal's roles carries the right; a principal without roles may do nothing."""
    return any(RIGHTS[role] is right for role in principal.roles)


class _Line(BaseModel):
    """One principal of the token file; the token is never shown in an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=128)]
    roles: frozenset[Role]
    token: Annotated[SecretStr, Field(min_length=16)]


_FILE = TypeAdapter(list[_Line], config=ConfigDict(hide_input_in_errors=True))


@dataclass(frozen=True, slots=True)
class Principals:
    """All principals of an installation; tokens are kept as digests only and are not shown."""

    by_digest: tuple[tuple[bytes, Principal], ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read a JSON list of `{"name", "roles", "token"}`; a token has at least 16 characters.

        Raises ValueError, without quoting a token, when the list is malformed, names a role that does not exist,
        or holds one name or one token twice.
        """
        try:
            lines = _FILE.validate_json(text)
        except ValidationError as error:
            raise ValueError(f"the token file is not a list of name, roles and token: {error}") from None
        pairs = tuple((_digest(line.token.get_secret_value()), Principal(line.name, line.roles)) for line in lines)
        names, digests = {principal.name for _, principal in pairs}, {digest for digest, _ in pairs}
        if min(len(names), len(digests)) < len(pairs):
            raise ValueError("the token file holds a name or a token twice; give each principal its own line and token")
        return cls(pairs)

    def authenticate(self, token: str) -> Principal | None:
        """Return whose token this is, or None; the time taken does not depend on the token."""
        offered = _digest(token)
        found = [principal for digest, principal in self.by_digest if compare_digest(digest, offered)]
        return found[0] if found else None


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
