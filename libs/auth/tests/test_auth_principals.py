import json

import pytest

from mainstem import auth
from mainstem.auth import Principal, Principals, Right, Role, allows

ADA = {"name": "ada", "roles": ["approver", "operator"], "token": "a" * 16}
LOADER = {"name": "loader", "roles": ["replay"], "token": "l" * 32}


def parsed(*lines):
    return Principals.parse(json.dumps(lines))


def test_the_public_names_are_these():
    assert auth.__all__ == ["Principal", "Principals", "Right", "Role", "allows"]


def test_a_token_names_its_principal():
    principals = parsed(ADA, LOADER)
    assert principals.authenticate("l" * 32) == Principal("loader", frozenset({Role.REPLAYER}))


@pytest.mark.parametrize("token", ["", "a" * 15, "a" * 17, "A" * 16, "ada", "\ud800"])
def test_any_other_token_names_nobody(token):
    assert parsed(ADA, LOADER).authenticate(token) is None


@pytest.mark.parametrize(
    ("role", "right"), [("approver", "approve"), ("operator", "operate"), ("builder", "build"), ("replay", "replay")]
)
def test_a_role_carries_exactly_its_right(role, right):
    principal = Principal("someone", frozenset({Role(role)}))
    assert [granted for granted in Right if allows(principal, granted)] == [Right(right)]


def test_roles_add_up():
    principal = parsed(ADA).authenticate("a" * 16)
    assert [right for right in Right if allows(principal, right)] == [Right.APPROVE, Right.OPERATE]


def test_a_principal_without_roles_may_do_nothing():
    assert not any(allows(Principal("guest", frozenset()), right) for right in Right)


@pytest.mark.parametrize(
    "line",
    [
        {"name": "x", "roles": ["approver"]},
        {"name": "x", "roles": ["root"], "token": "secret-" * 4},
        {"name": "", "roles": [], "token": "secret-" * 4},
        {"name": "x", "roles": [], "token": "secret-"},
        {"name": "x", "roles": [], "token": "secret-" * 4, "admin": True},
        "secret-",
    ],
)
def test_a_malformed_line_is_refused_without_quoting_the_token(line):
    with pytest.raises(ValueError, match="token file") as refusal:
        parsed(line)
    assert "secret-" not in str(refusal.value)


@pytest.mark.parametrize("second", [ADA | {"token": "b" * 16}, ADA | {"name": "bob"}])
def test_a_name_or_a_token_that_stands_twice_is_refused(second):
    with pytest.raises(ValueError, match="twice"):
        parsed(ADA, second)


def test_tokens_are_not_kept_and_not_shown():
    principals = parsed(ADA)
    assert "a" * 16 not in repr(principals)
    assert b"a" * 16 not in principals.by_digest[0][0]
