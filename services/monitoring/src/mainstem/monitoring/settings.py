"""Monitoring's settings: the platform's, nothing of its own yet."""

from mainstem.runtime import ServiceSettings


class Settings(ServiceSettings):
    """See `ServiceSettings`."""
