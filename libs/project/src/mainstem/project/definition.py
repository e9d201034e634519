"""A project as one document: what its folder means, and all that services ever see of it."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from mainstem.events.errors import Rejected, faults
from mainstem.feature_engine import CompiledSet, DefinitionError, authored, load
from mainstem.feature_engine.expressions import spec_of
from mainstem.project.canonical import address, canonical
from mainstem.project.charter import UNREGULATED, Charter
from mainstem.project.contract import Name, SetLabel, SourceContract
from mainstem.project.errors import Disagreement
from mainstem.project.model import ModelDefinition
from mainstem.project.monitoring import Monitoring
from mainstem.project.serving import Serving

#: Kinds of columns whose values may be what a row is known by, which is a text.
_TEXTS: Final = ("category", "text")


class FeatureSetDefinition(BaseModel):
    """A compiled feature set: the engine's own description and its identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    spec: dict[str, JsonValue]

    @cached_property
    def compiled(self) -> CompiledSet:
        """The feature set itself, from the description; raise ValueError when the two disagree."""
        compiled = load(self.spec)
        if compiled.id != self.id:
            raise ValueError(f"the feature set hashes to {compiled.id}, its definition says {self.id}")
        return compiled


class Unjoined(NamedTuple):
    """A label that cannot be joined with the rows that it is for: of a model, or else the target of a feature set."""

    of_model: bool
    name: str  #: of the model, or of the target
    feature_set: str
    found: str
    fix: str


class ProjectDefinition(BaseModel):
    """The canonical definition of a project. Two folders that mean the same have the same `id`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["mainstem.project.v1"] = "mainstem.project.v1"
    charter: Charter
    sources: dict[Name, SourceContract]
    feature_sets: dict[SetLabel, FeatureSetDefinition]
    models: dict[Name, ModelDefinition]
    serving: Serving
    monitoring: Monitoring

    @cached_property
    def id(self) -> str:
        """The content address of the canonical form."""
        return address(self.canonical())

    def canonical(self) -> bytes:
        """Return the definition as canonical JSON; `parse` reads it back."""
        return canonical(self)

    def known_by(self, feature_set: str) -> str:
        """Return the column that the rows of a set are known by, the key of its spine: labels are joined by no other.

        Reading a definition does not ask for that, since one that was applied earlier may say otherwise: whoever puts a
        definition in force asks `unjoined`, and whoever joins asks `misjoined`.
        """
        return self.sources[self.feature_sets[feature_set].compiled.spine].key

    def unjoined(self) -> Iterator[Unjoined]:
        """Yield the labels that cannot be joined with the rows that they are for, the targets of sets first."""
        for label, part in self.feature_sets.items():
            if (target := part.compiled.target) is not None:
                fault = self.misjoined(f"the target {target.name!r}", target.stream, target.on, label)
                if fault is not None:
                    yield Unjoined(of_model=False, name=target.name, feature_set=label, found=fault[0], fix=fault[1])
        for name, model in self.models.items():
            what, label = f"the label of model {name!r}", model.feature_set
            fault = self.misjoined(what, model.label.source, model.label.key, label)
            if fault is not None:
                yield Unjoined(of_model=True, name=name, feature_set=label, found=fault[0], fix=fault[1])

    def unwritten(self, before: Collection[FeatureSetDefinition]) -> Iterator[tuple[str, DefinitionError]]:
        """Yield the labels of the sets that no folder may declare, with why; those of `before` stay as they are."""
        kept = [part.spec for part in before]
        for label, part in self.feature_sets.items():
            if part.spec not in kept:
                try:
                    authored.refuse(part.compiled.definition)
                except DefinitionError as error:
                    yield label, error

    def misjoined(self, what: str, source: str, key: str, feature_set: str) -> tuple[str, str] | None:
        """Return what keeps a label of a set, called `what`, from being joined, and what to do; None if nothing does.

        `source` is where it comes from, and `key` the column that it is joined by.
        """
        wanted = self.known_by(feature_set)
        if key != wanted:
            known = f"rows of {feature_set!r} are known by {wanted!r}, the key of their spine"
            fix = f"join it by {wanted!r}, or take a spine that is keyed by {key!r}"
            return f"{what} is joined by {key!r}, but {known}", fix
        if source not in self.sources:
            return f"{what} comes from {source!r}, which is no source", "declare it in sources.py"
        column = self.sources[source].columns.get(key)
        if column is None or column.kind not in _TEXTS:
            there = "no column" if column is None else f"a {column.kind} column"
            found = f"{what} is joined by {key!r}, {there} of {source!r}, which is never what a row is known by"
            return found, f"make {key!r} of {source!r} a category"
        return None

    @model_validator(mode="after")
    def _parts_are_filed_under_their_names(self) -> Self:
        names = [(name, part.name) for name, part in self.sources.items()]
        names += [(name, part.name) for name, part in self.models.items()]
        for filed, name in names:
            if filed != name:
                raise ValueError(f"{name!r} is filed under {filed!r}")
        return self

    @model_validator(mode="after")
    def _feature_sets_read_the_sources_as_declared(self) -> Self:
        for label, feature_set in self.feature_sets.items():
            if feature_set.compiled.label != label:
                raise ValueError(f"feature set {feature_set.compiled.label!r} is filed under {label!r}")
            for source, columns in feature_set.compiled.streams.items():
                if source not in self.sources:
                    found = f"feature set {label!r} reads {source!r}, which sources.py does not declare"
                    raise Disagreement(found, f"declare it, or take one of {_listed(self.sources)}", feature_set=label)
                declared = spec_of(self.sources[source].stream()).columns
                other = sorted(column for column, kind in columns.items() if declared.get(column) != kind)
                if other:
                    found = f"feature set {label!r} reads {other} of {source!r} otherwise than its contract"
                    raise Disagreement(found, f"take the stream of the source, {source}.stream()", feature_set=label)
        return self

    @model_validator(mode="after")
    def _ages_are_limited_of_sources(self) -> Self:
        for source in self.serving.lookup.limits if self.serving.lookup else ():
            if source not in self.sources:
                found = f"[lookup] limits the age of {source!r}, which is no source"
                raise Disagreement(
                    found, f"take it out, or one of {_listed(self.sources)}", setting=f"lookup.limits.{source}"
                )
        return self

    @model_validator(mode="after")
    def _labels_do_not_collide(self) -> Self:
        """Refuse `a.v2` beside `a_v2`: the broker takes only one of two topics that differ in a dot."""
        flat = {label: label.replace(".", "_") for label in self.feature_sets}
        for label, name in flat.items():
            if name != label and name in flat:
                found = f"feature sets {label!r} and {name!r} would have one topic"
                raise Disagreement(found, f"give {name!r} another name", feature_set=name)
        return self

    @model_validator(mode="after")
    def _models_stand_on_known_parts(self) -> Self:
        for model in self.models.values():
            wanted = model.feature_set
            if wanted not in self.feature_sets:
                found = f"model {model.name!r} reads feature set {wanted!r}, which features.py does not declare"
                fix = f"declare it with @feature_set, or take one of {_listed(self.feature_sets)}"
                raise Disagreement(found, fix, model=model.name, said=wanted)
            self._label_can_be_joined(model)
        return self

    @model_validator(mode="after")
    def _records_are_dropped_only_where_no_rule_asks_for_them(self) -> Self:
        exposure = self.charter.risk.regulatory_exposure
        for name, policy in self.serving.overflow.items():
            if name not in self.models:
                found = f"overflow is said of {name!r}, which is no model"
                raise Disagreement(found, f"take one of {_listed(self.models)}", setting=f"overflow.{name}")
            if policy == "drop" and exposure > UNREGULATED:
                found = f"records of {name!r} are dropped, but rules cover it: regulatory_exposure is {exposure}"
                raise Disagreement(
                    found, 'write "block": what cannot be recorded is not answered', setting=f"overflow.{name}"
                )
        return self

    def _label_can_be_joined(self, model: ModelDefinition) -> None:
        label, what = model.label, f"the label of {model.name!r}"
        source = self.sources.get(label.source)
        if source is None:
            found, fix = f"{what} comes from {label.source!r}, which is no source", _listed(self.sources)
            raise Disagreement(found, f"take one of {fix}", model=model.name, said=label.source)
        if label.key not in source.columns:
            found, fix = f"{what} is joined by {label.key!r}, no column of {source.name!r}", _listed(source.columns)
            raise Disagreement(found, f"take one of {fix}", model=model.name, said=label.key)
        column = source.columns.get(label.column)
        if column is None or column.kind != "fixed":
            found = f"{what} needs a number, {label.column!r} of {source.name!r} is none"
            numbers = [name for name, kind in source.columns.items() if kind.kind == "fixed"]
            raise Disagreement(found, f"take one of {_listed(numbers)}", model=model.name, said=label.column)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none, since there is none yet"


def parse(document: bytes | str | Mapping[str, object]) -> ProjectDefinition:
    """Read a definition back; raise Rejected with every fault when it is none."""
    try:
        if isinstance(document, Mapping):
            return ProjectDefinition.model_validate(document)
        return ProjectDefinition.model_validate_json(document)
    except ValidationError as error:
        raise Rejected(f"this is no project definition: {faults(error)}; apply the project folder again") from error
