"""The ledger's settings."""

from pathlib import Path

from mainstem.runtime import ServiceSettings


class Settings(ServiceSettings):
    """What it publishes, by which key, and who cosigns it; see `ServiceSettings` for the rest."""

    #: Folder of the published log; another process must not write there.
    log: Path
    #: File of the log's secret key.
    log_secret: Path
    #: Address of the witness.
    witness_url: str
    #: File of the witness's public key.
    witness_vkey: Path
