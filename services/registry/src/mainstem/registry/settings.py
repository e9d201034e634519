"""The registry's settings: the platform's, nothing of its own."""

from mainstem.runtime import ServiceSettings


class Settings(ServiceSettings):
    """See `ServiceSettings`."""
