"""The registry's settings."""

from pathlib import Path

from mainstem.runtime import ServiceSettings


class Settings(ServiceSettings):
    """By which keys it knows that a decision is in the log; see `ServiceSettings` for the rest."""

    #: File of the log's public key.
    log_vkey: Path
    #: File of the witness's public key.
    witness_vkey: Path
