"""What every service is told by its environment (`MAINSTEM_…`)."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Addresses and folders; a service adds its own. There are no secret defaults."""

    model_config = SettingsConfigDict(env_prefix="MAINSTEM_", frozen=True)

    #: Bootstrap address of Kafka, host:port.
    kafka: str
    #: postgresql://user:password@host:port/database
    database_url: str
    #: Folder of the artifact store.
    artifacts: Path
    #: Folder for spans; none are written without it.
    traces: Path | None = None
    #: File of principals and tokens; without it every command from outside is refused.
    principals: Path | None = None
    #: Address to listen on.
    http_host: str = "127.0.0.1"
    #: Port of health, metrics and API.
    http_port: int
    #: Which of several equal processes this is; stable over restarts.
    instance: str = "0"
    log_level: str = "INFO"
