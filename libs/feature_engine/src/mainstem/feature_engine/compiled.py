"""A checked feature set with its address: what services pass around and the engine is made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from mainstem.feature_engine.canonical import Json, content_id, from_spec, to_spec
from mainstem.feature_engine.checks import check
from mainstem.feature_engine.column_types import ColumnType
from mainstem.feature_engine.definition import Definition, Target
from mainstem.feature_engine.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class CompiledSet:
    """A feature set that can be computed; equal ids give equal bits on equal logs."""

    id: str  #: sha256:… of the canonical JSON of `spec`
    definition: Definition

    @property
    def spec(self) -> dict[str, object]:
        """The definition as plain JSON, for events and files; `load` takes it back."""
        return to_spec(self.definition)

    @property
    def name(self) -> str:
        """The name of the feature set, the same for all its versions."""
        return self.definition.name

    @property
    def version(self) -> int:
        """The version of the feature set, from 1."""
        return self.definition.version

    @property
    def label(self) -> str:
        """What the set goes by beside its other versions: its name, from version 2 on `name.vN`."""
        return self.name if self.version == 1 else f"{self.name}.v{self.version}"

    @property
    def target(self) -> Target | None:
        """The label that goes with the features."""
        return self.definition.target

    @property
    def names(self) -> tuple[str, ...]:
        """The features in declaration order: the columns of a row of values."""
        return tuple(feature.name for feature in self.definition.features)

    @property
    def spine(self) -> str:
        """The stream whose every event gets one row."""
        return self.definition.streams[0].name

    @property
    def streams(self) -> Mapping[str, Mapping[str, ColumnType]]:
        """The columns that a batch must bring, by stream; the order of the streams is that of `Batch.stream`."""
        return {stream.name: stream.columns for stream in self.definition.streams}

    @property
    def keys(self) -> Mapping[str, str]:
        """The name of the column that says which entity an event of the stream is about, by stream."""
        return {stream.name: stream.key for stream in self.definition.streams}


def compiled(definition: Definition) -> CompiledSet:
    """Check a definition and give it its id; raise DefinitionError if it cannot be computed exactly."""
    check(definition)
    return CompiledSet(content_id(to_spec(definition)), definition)


def load(spec: Json) -> CompiledSet:
    """Return the feature set of a specification, with the id it was compiled with; raise DefinitionError."""
    try:
        definition = from_spec(spec)
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        problem = f"the specification does not have the form that compile() gives ({exc!r})"
        raise DefinitionError(str(spec.get("feature_set")), problem, "compile it again from its source") from exc
    return compiled(definition)
