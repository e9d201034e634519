"""Principals, roles and rights: a pure decision."""

from mainstem.auth.principals import Principal, Principals, Right, Role, allows

__all__ = ["Principal", "Principals", "Right", "Role", "allows"]
