"""What the local platform runs, what each part needs, where it listens; docker-compose.yml holds the same graph."""

import sys
from collections.abc import Collection
from dataclasses import dataclass

KAFKA = "kafka"
POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class Service:
    """A service of ours. What it needs of other services it waits for by their events; only the ledger asks one."""

    name: str
    package: str
    http: int
    grpc: int | None = None
    needs: tuple[str, ...] = (KAFKA, POSTGRES)

    @property
    def argv(self) -> tuple[str, ...]:
        """The command that runs the service in this environment."""
        return (sys.executable, "-P", "-m", f"mainstem.{self.package}.app")

    @property
    def ports(self) -> dict[str, int]:
        """The default port of each of its doors, by the name of the door."""
        return {self.name: self.http} | ({f"{self.name}-grpc": self.grpc} if self.grpc else {})


#: The default ports of the servers, by door.
SERVER_PORTS = {"kafka": 19_092, "kafka-controller": 19_093, "postgres": 15_432}

SERVICES = {
    service.name: service
    for service in (
        Service("ingestion", "ingestion", 8101),
        Service("features", "features", 8102),
        Service("training", "training", 8103),
        Service("registry", "registry", 8104),
        Service("serving", "serving", 8105, grpc=8106),
        Service("monitoring", "monitoring", 8107),
        Service("witness", "witness", 8109, needs=()),
        Service("ledger", "ledger_service", 8108, needs=(KAFKA, POSTGRES, "witness")),
    )
}


def chosen(names: Collection[str]) -> list[Service]:
    """Return the services of these names and those that they need."""
    wanted = {*names, *(need for name in names for need in SERVICES[name].needs)}
    return [service for service in SERVICES.values() if service.name in wanted]


def default_ports() -> dict[str, int]:
    """Every door of the whole platform with its default port."""
    ports = dict(SERVER_PORTS)
    for service in SERVICES.values():
        ports |= service.ports
    return ports
