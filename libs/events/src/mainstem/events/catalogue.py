"""Every type of event, found by its name; and the two directions between an event and a record."""

from typing import Final

from pydantic import ValidationError

from mainstem.events import data, features, ledger, monitoring, registry, serving, training
from mainstem.events.envelope import Event, Message, read_envelope
from mainstem.events.errors import Undecodable, faults
from mainstem.events.fact import Fact
from mainstem.events.record import Record

FACTS: Final[tuple[type[Fact], ...]] = (
    data.RecordAccepted,
    data.RecordQuarantined,
    data.RecordRedriven,
    data.BatchJudged,
    data.ProgressReached,
    features.RowComputed,
    features.OrderJournalled,
    features.VectorsChecked,
    features.FoldStopped,
    features.ValuesRead,
    training.TrainingRequested,
    training.StepCompleted,
    training.RunCompleted,
    training.RunFailed,
    training.DatasetRequested,
    training.DatasetBuilt,
    training.DatasetFailed,
    registry.ProjectApplied,
    registry.VersionRegistered,
    registry.VersionApproved,
    registry.ChangeRefused,
    registry.VersionPromoted,
    registry.DeploymentSet,
    serving.DeploymentActivated,
    serving.DeploymentRefused,
    serving.DeploymentLost,
    serving.Predicted,
    serving.ShadowScored,
    monitoring.WindowJudged,
    monitoring.AlertOpened,
    monitoring.FeatureAlertOpened,
    monitoring.FeatureSetAlertOpened,
    monitoring.RetrainingAsked,
    monitoring.AlertClosed,
    monitoring.FeatureSetAlertClosed,
    ledger.CheckpointPublished,
    ledger.RangeSealed,
    ledger.ReceiptIssued,
)

BY_TYPE: Final[dict[str, type[Fact]]] = {fact.TYPE: fact for fact in FACTS}


def encode(event: Event) -> Message:
    """Return the Kafka message of a control-plane event."""
    return Message(
        topic=event.fact.topic,
        key=event.fact.key.encode(),
        value=event.fact.model_dump_json().encode(),
        headers=event.envelope.headers(),
    )


def decode(record: Record) -> Event:
    """Return the event in `record`; raise Undecodable naming where it stands and what is wrong.

    An event counts on its own topic alone: whoever may write to another could call a record of theirs whatever they
    like, and give it any id.
    """
    try:
        envelope = read_envelope(record.headers)
        fact = BY_TYPE[envelope.type].model_validate_json(record.value or b"")
        if fact.TOPIC != "*" and fact.topic != record.topic:
            raise ValueError(f"{envelope.type} belongs on {fact.topic}")
        return Event(envelope, fact)
    except (KeyError, ValueError) as fault:
        where = f"{record.topic}/{record.partition}/{record.offset}"
        why = faults(fault) if isinstance(fault, ValidationError) else repr(fault)
        raise Undecodable(f"record {where} is no event of the catalogue: {why}; fix its writer") from fault
