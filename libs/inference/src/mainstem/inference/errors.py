"""Why a call is not answered, whatever transport it came by."""

from mainstem.events.errors import MainstemError, Rejected


class BadRequest(Rejected):
    """The request is none, or not what the model takes."""


class TooLarge(BadRequest):
    """The request is larger than one call may be."""


class Unsupported(BadRequest):
    """The protocol has this, and this server does not."""


class Unknown(MainstemError):
    """No such model answers here, or not in this version."""


class NotReady(MainstemError):
    """The model is known but cannot answer now, or its answer could not be recorded."""


class NoAnswer(MainstemError):
    """The model gave something that is no answer, or the server failed."""


class DeadlineExceeded(MainstemError):
    """The call could not have been answered within its deadline; nothing was done for it."""
