"""What the witness is told by its environment: nothing of Kafka, nothing of a database."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Addresses, keys and a folder. There are no secret defaults."""

    model_config = SettingsConfigDict(env_prefix="MAINSTEM_", frozen=True)

    #: File of the secret key; nobody else's, least of all the log's.
    witness_secret: Path
    #: Folder of what was cosigned last; lost or set back, it must not be used with the same key again.
    witness_state: Path
    #: File of the public keys of the logs that are cosigned, one a line.
    log_vkey: Path
    #: Address to listen on.
    http_host: str = "127.0.0.1"
    #: Port of add-checkpoint, health and metrics.
    http_port: int
    log_level: str = "INFO"
