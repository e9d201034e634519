"""The table of topics. Topics are created from it, and `schemas/topics.json` is generated from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mainstem.events import data, features, ledger, monitoring, registry, serving, training
from mainstem.events.errors import Rejected
from mainstem.events.fact import Fact

_DAY_MS: Final = 86_400_000
_MIB: Final = 1 << 20
#: A source may send 16 MiB and what stands around it; what is too large for its contract is then quarantined by name.
LARGEST_SOURCE_MESSAGE: Final = 17 * _MIB


@dataclass(frozen=True, slots=True)
class Topic:
    """One row: a topic or, with a `{placeholder}`, a family of topics that definitions bring into being."""

    pattern: str
    key: str
    writer: str
    readers: tuple[str, ...]
    facts: tuple[type[Fact], ...]
    about: str
    partitions: int = 1
    compact: bool = False
    retention_ms: int = 30 * _DAY_MS
    max_message_bytes: int = 2 * _MIB
    extra: dict[str, str] = field(default_factory=dict)
    #: Whether the ledger issues a receipt of each event.
    receipts: bool = False

    def config(self) -> dict[str, str]:
        """Return the broker's settings of the topic.

        The record timestamp is the broker's append time: retention counts from it, so event time there
        would delete history as soon as it is written.
        """
        return {
            "cleanup.policy": "compact" if self.compact else "delete",
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": "-1" if self.compact else str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
            **self.extra,
        }


TOPICS: Final[tuple[Topic, ...]] = (
    Topic(
        "src.{source}",
        key="entity",
        writer="source systems",
        readers=("ingestion", "ledger"),
        facts=(data.ProgressReached,),
        about="Records as they come: plain JSON, or CloudEvents in binary mode.",
        partitions=2,
        max_message_bytes=LARGEST_SOURCE_MESSAGE,
    ),
    Topic(
        "evt.data.{source}",
        key="entity",
        writer="ingestion",
        readers=("features", "training", "monitoring", "ledger"),
        facts=(data.RecordAccepted, data.ProgressReached),
        about="Records that met their contract.",
        partitions=2,
    ),
    Topic(
        "evt.data.quarantine",
        key="source",
        writer="ingestion",
        readers=("ledger",),
        facts=(data.RecordQuarantined, data.RecordRedriven, data.BatchJudged),
        about="Records that broke their contract, their corrections, and verdicts on batches.",
    ),
    Topic(
        "evt.feature.{feature_set}",
        key="entity",
        writer="features",
        readers=("training", "serving", "ledger"),
        facts=(features.RowComputed, data.ProgressReached),
        about="One row of feature values per spine record.",
        partitions=2,
    ),
    Topic(
        "evt.feature.journal",
        key="feature set",
        writer="features",
        readers=("ledger",),
        facts=(features.OrderJournalled,),
        about="The order in which records were applied.",
    ),
    Topic(
        "evt.feature.check",
        key="feature set",
        writer="features",
        readers=("monitoring", "ledger"),
        facts=(features.VectorsChecked, features.FoldStopped),
        about="Published rows held against the log by other code, and folds that cannot go on.",
    ),
    Topic(
        "evt.feature.read",
        key="feature set",
        writer="features",
        readers=("ledger",),
        facts=(features.ValuesRead,),
        about="Values that were read without an event.",
    ),
    Topic(
        "evt.training.run",
        key="model",
        writer="training",
        readers=("registry", "ledger"),
        facts=(
            training.TrainingRequested,
            training.StepCompleted,
            training.RunCompleted,
            training.RunFailed,
            training.DatasetRequested,
            training.DatasetBuilt,
            training.DatasetFailed,
        ),
        about="Training runs, their steps, and datasets.",
    ),
    Topic(
        "evt.registry.project",
        key="project",
        writer="registry",
        readers=("ingestion", "features", "training", "serving", "monitoring", "ledger"),
        facts=(registry.ProjectApplied,),
        about="Definitions of projects.",
    ),
    Topic(
        "evt.registry.model",
        key="model",
        writer="registry",
        readers=("training", "serving", "monitoring", "ledger"),
        facts=(
            registry.VersionRegistered,
            registry.VersionApproved,
            registry.ChangeRefused,
            registry.VersionPromoted,
        ),
        about="Versions, verdicts of gates, approvals, promotions, refusals.",
        receipts=True,
    ),
    Topic(
        "state.deployment",
        key="model",
        writer="registry",
        readers=("serving", "ledger"),
        facts=(registry.DeploymentSet,),
        about="What may serve now; full snapshots by model.",
        compact=True,
        receipts=True,
    ),
    Topic(
        "evt.serving.deployment",
        key="model",
        writer="serving",
        readers=("monitoring", "ledger"),
        facts=(serving.DeploymentActivated, serving.DeploymentRefused, serving.DeploymentLost),
        about="Versions that serving loaded or refused, or cannot load any more.",
    ),
    Topic(
        "tel.prediction.{model}",
        key="entity",
        writer="serving",
        readers=("monitoring", "ledger"),
        facts=(serving.Predicted, serving.ShadowScored, data.ProgressReached),
        about="Every answer with its inputs, and what shadows would have answered.",
        partitions=2,
    ),
    Topic(
        "evt.monitoring.window",
        key="model",
        writer="monitoring",
        readers=("ledger",),
        facts=(monitoring.WindowJudged,),
        about="Figures of closed windows.",
    ),
    Topic(
        "evt.monitoring.alert",
        key="model, or feature set",
        writer="monitoring",
        readers=("training", "ledger"),
        facts=(
            monitoring.AlertOpened,
            monitoring.FeatureAlertOpened,
            monitoring.FeatureSetAlertOpened,
            monitoring.RetrainingAsked,
            monitoring.AlertClosed,
            monitoring.FeatureSetAlertClosed,
        ),
        about="Alerts and the responses they ask for.",
    ),
    Topic(
        "evt.ledger.checkpoint",
        key="ledger",
        writer="ledger",
        readers=("ledger",),
        facts=(ledger.CheckpointPublished,),
        about="Signed and cosigned checkpoints: size and root of the tree over all entries.",
    ),
    Topic(
        "evt.ledger.range",
        key="ledger",
        writer="ledger",
        readers=("ledger",),
        facts=(ledger.RangeSealed,),
        about="Ranges of entries that were sealed, each with its file and the checkpoint that closes it.",
    ),
    Topic(
        "evt.ledger.receipt",
        key="event_id",
        writer="ledger",
        readers=("registry", "ledger"),
        facts=(ledger.ReceiptIssued,),
        about="Proofs that decisions are in the tree.",
    ),
)


@dataclass(frozen=True, slots=True)
class ConcreteTopic:
    """A topic as the broker has it."""

    name: str
    partitions: int
    config: dict[str, str]

    def accept(self, found: "ConcreteTopic") -> None:
        """Accept the topic that exists under the name; raise Rejected when records would be lost or misplaced in it."""
        there = f"topic {self.name} exists with"
        if found.partitions != self.partitions:
            raise Rejected(
                f"{there} {found.partitions} partitions, {self.partitions} are asked for; "
                f"declare partitions={found.partitions}, or choose another name"
            )
        for name, holds in _NEEDED.items():
            wanted, given = self.config.get(name), found.config.get(name, "")
            if wanted is not None and not holds(given, wanted):
                raise Rejected(f"{there} {name}={given}, {wanted} is asked for; alter it, or choose another name")


#: Settings that an existing topic must have, and whether what it has will do.
_NEEDED: Final[dict[str, Callable[[str, str], bool]]] = {
    "message.timestamp.type": str.__eq__,
    "max.message.bytes": lambda given, wanted: int(given) >= int(wanted),
}


def fixed() -> list[ConcreteTopic]:
    """Return the topics that exist before any project does."""
    return [ConcreteTopic(t.pattern, t.partitions, t.config()) for t in TOPICS if "{" not in t.pattern]


def member(pattern: str, name: str, partitions: int) -> ConcreteTopic:
    """Return one topic of the family `pattern`; raise KeyError for a pattern that is not in the table."""
    row = {t.pattern: t for t in TOPICS}[pattern]
    prefix = pattern[: pattern.index("{")]
    return ConcreteTopic(prefix + name, partitions, row.config())
