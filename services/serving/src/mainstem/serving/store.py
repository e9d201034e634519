"""Serving's store on PostgreSQL."""

import dataclasses
from collections.abc import Sequence

from mainstem.events.catalogue import decode
from mainstem.events.envelope import Envelope, Event, follow
from mainstem.events.features import RowComputed
from mainstem.events.fence import read_origin
from mainstem.events.record import Record
from mainstem.events.registry import DeploymentSet, ProjectApplied, VersionApproved, VersionPromoted
from mainstem.events.serving import DeploymentActivated, DeploymentLost, DeploymentRefused
from mainstem.project.columns import Column, FixedColumn
from mainstem.project.definition import ProjectDefinition
from mainstem.project.definition import parse as parse_definition
from mainstem.serving.domain import SOURCE, Activation, Followed, Tallies
from mainstem.serving.ports import Progress
from mainstem.storage import Database, Transaction, load

SQL = load("mainstem.serving")

#: Datatypes of the protocol that say the values of a column, by its kind; a whole number is INT64.
_DATATYPES = {"category": "BYTES", "text": "BYTES", "time": "BYTES", "fixed": "FP64", "boolean": "BOOL"}

_PREDICTIONS = "tel.prediction."

#: Tables that are folds of the log; `audit replay` rebuilds and compares them.
PROJECTIONS = ("project", "approval", "promotion", "deployment", "activation", "refusal", "prediction_tally")
#: The topics whose facts they fold.
TOPICS = (
    "state.deployment",
    "evt.registry.model",
    "evt.registry.project",
    "evt.serving.deployment",
    "tel.prediction.*",
)


class PostgresStore:
    """Keeps `Store`'s promises in one schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, progress: Progress) -> None:
        """Store positions, states and tallies in one transaction, once."""
        places = sorted(progress.positions)
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["stored_positions"], [p[0] for p in places], [p[1] for p in places])
            stored = {(row["topic"], row["part"]): row["next_offset"] for row in rows}
            if stored == {place: progress.positions[place].next_offset for place in places}:
                return
            await add_tallies(tx, progress.tallies)
            for parked in progress.parked:
                await tx.park(parked.record, parked.reason)
            await tx.save_positions(progress.positions, progress.states)

    async def pending(self) -> list[Event]:
        """Return the deployments without a verdict."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["pending"])
        return [Event(Envelope(**row["envelope"]), DeploymentSet.model_validate(row["fact"])) for row in rows]

    async def approved(self, model: str, version: int, onnx: str) -> bool:
        """Tell whether this version and digest was approved."""
        async with self._database.transaction() as tx:
            (row,) = await tx.fetch(SQL["is_approved"], model, version, onnx)
        return bool(row["found"])

    async def promoted(self, deployment: Event, model: str, version: int) -> bool:
        """Tell whether a promotion led to it, and to no other that was activated."""
        envelope = deployment.envelope
        async with self._database.transaction() as tx:
            (row,) = await tx.fetch(SQL["is_promoted"], envelope.causation, model, version, envelope.id)
        return bool(row["found"])

    async def record(self, verdict: Event) -> None:
        """Append a verdict and fold it; one on a deployment that has a verdict changes nothing."""
        async with self._database.transaction() as tx:
            (row,) = await tx.fetch(SQL["is_decided"], verdict.envelope.causation)
            if not row["found"]:
                await tx.append([verdict])
                await apply(tx, verdict)

    async def record_loss(self, lost: Activation, rule: str, reason: str) -> None:
        """Append it, caused by the deployment; its id is derived from the reason."""
        fact = DeploymentLost(model=lost.model, version=lost.version, onnx=lost.onnx, rule=rule, reason=reason)
        async with self._database.transaction() as tx:
            (row,) = await tx.fetch(SQL["deployment"], lost.deployment)
            await tx.append([follow(Envelope(**row["envelope"]), fact, source=SOURCE, name=reason)])

    async def activations(self) -> list[Activation]:
        """Return all activations."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["activations"])
        return [
            Activation.of(
                row["deployment"],
                DeploymentSet.model_validate(row["fact"]),
                DeploymentActivated.model_validate(dict(row)),
            )
            for row in rows
        ]

    async def feature_topics(self) -> dict[str, list[str]]:
        """Return the models by the feature topics that they and their deployments read."""
        async with self._database.transaction() as tx:
            definitions = [parse_definition(row["definition"]) for row in await tx.fetch(SQL["definitions"])]
            deployed = [tuple(row) for row in await tx.fetch(SQL["deployed"])]
        found: dict[str, list[str]] = {}
        for definition in definitions:
            computed = {(label, part.id) for label, part in definition.feature_sets.items()}
            for name, model in definition.models.items():
                read = {label for by, label, id_ in deployed if by == name and (label, id_) in computed}
                for label in sorted({model.feature_set, *read}):
                    found.setdefault(RowComputed.topic_of(label), []).append(name)
        return found

    async def lookups(self) -> dict[str, Followed]:
        """Return the feature sets whose values are looked up, by their identity."""
        async with self._database.transaction() as tx:
            definitions = [parse_definition(row["definition"]) for row in await tx.fetch(SQL["definitions"])]
        return {
            part.id: followed(definition, label)
            for definition in definitions
            if definition.serving.lookup is not None
            for label, part in definition.feature_sets.items()
        }

    async def droppable(self) -> set[str]:
        """Return the models whose project lets their records be dropped."""
        async with self._database.transaction() as tx:
            definitions = [parse_definition(row["definition"]) for row in await tx.fetch(SQL["definitions"])]
        return {name for one in definitions for name, policy in one.serving.overflow.items() if policy == "drop"}


def followed(definition: ProjectDefinition, label: str) -> Followed:
    """Return what is followed of a feature set of a project."""
    compiled = definition.feature_sets[label].compiled
    said = definition.sources[compiled.spine].columns
    columns = {name: _datatype(said[name]) for name in compiled.streams[compiled.spine]}
    return Followed(label, definition.canonical(), columns)


def _datatype(column: Column) -> str:
    return "INT64" if isinstance(column, FixedColumn) and column.integer else _DATATYPES[column.kind]


async def apply_records(tx: Transaction, records: Sequence[Record]) -> None:
    """Fold records of TOPICS, as a replay of the log meets them. Raises Undecodable."""
    for record in records:
        if not record.topic.startswith(_PREDICTIONS):
            await apply(tx, decode(record))
    await add_tallies(tx, Tallies.of(r for r in records if r.topic.startswith(_PREDICTIONS)))


async def apply(tx: Transaction, event: Event) -> None:
    """Fold one fact; other facts of the topics change nothing."""
    cause = event.envelope.causation
    match event.fact:
        case ProjectApplied() as fact:
            parse_definition(fact.definition)  # whoever wrote it: a definition or nothing
            await tx.execute(SQL["set_project"], fact.project, fact.definition_id, fact.definition)
        case VersionApproved() as fact:
            await tx.execute(SQL["add_approval"], fact.model, fact.version, fact.onnx)
        case VersionPromoted() as fact:
            await tx.execute(SQL["add_promotion"], event.envelope.id, fact.model, fact.version)
        case DeploymentSet() as fact:
            await fold_deployment(tx, event.envelope, fact)
        case DeploymentActivated() as fact:
            await tx.execute(
                SQL["add_activation"],
                cause,
                fact.model,
                fact.version,
                fact.onnx,
                fact.effective_from,
                fact.from_offsets,
            )
        case DeploymentRefused() as fact:
            await tx.execute(SQL["add_refusal"], cause, fact.model, fact.version, fact.rule, fact.reason)
        case _:
            return


async def fold_deployment(tx: Transaction, envelope: Envelope, fact: DeploymentSet) -> None:
    """Fold DeploymentSet; its place is its number in the outbox of the registry, 0 for one that has none."""
    _, place = read_origin((envelope.origin or "").encode()) or ("", 0)
    await tx.execute(
        SQL["add_deployment"],
        envelope.id,
        fact.model,
        fact.version,
        place,
        dataclasses.asdict(envelope),
        fact.model_dump(),
    )


async def add_tallies(tx: Transaction, tallies: Tallies) -> None:
    """Fold predictions, counted by model, version, channel and partition."""
    for (model, version, channel, part), tally in sorted(tallies.items()):
        await tx.execute(SQL["add_tally"], model, version, channel, part, tally.n, tally.fingerprint)
