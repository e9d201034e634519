"""The data contract of a source: what a record must look like, when it may come, and what is judged batch by batch."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NoReturn, Self, TypedDict, Unpack, get_args

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator

from mainstem import feature_engine
from mainstem.feature_engine import DefinitionError
from mainstem.feature_engine.calls import Method, written
from mainstem.feature_engine.column_types import number_type
from mainstem.feature_engine.durations import microseconds
from mainstem.feature_engine.expressions import shown
from mainstem.project.canonical import address, canonical
from mainstem.project.columns import (
    BooleanColumn,
    CategoryColumn,
    Column,
    FixedColumn,
    TimeColumn,
)
from mainstem.project.durations import AUTHORED, Microseconds

#: Batch rules are judged over blocks of this many consecutive offsets of one partition.
BLOCK: Final = 1_000

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
#: A feature set is filed under its name, from version 2 on with the version behind it: `buying.v2`.
SetLabel = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}(\.v([2-9]|[1-9][0-9]{1,3}))?$")]
Fraction = Annotated[float, Field(ge=0, le=1)]


class BatchRules(BaseModel):
    """What must hold over every block of `BLOCK` consecutive offsets of a partition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_quarantined: Fraction = Field(default=1.0, description="Largest share of records that may be quarantined.")
    max_null: dict[Name, Fraction] = Field(default={}, description="Largest share of nulls, by column.")


class SourceContract(BaseModel):
    """What ingestion holds each record of a source against. Made by `source()`; durations are microseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(Method,))

    name: Name
    key: Name = Field(description="Column that the records are keyed by.")
    columns: dict[Name, Column] = Field(min_length=1)
    partitions: int = Field(default=2, gt=0, description="Partitions of its topic and of what is derived from it.")
    replay: bool = Field(default=False, description="Whether it replays history and announces its progress.")
    event_time: Literal["ce_time"] = Field(default="ce_time", description="Header that holds the event time.")
    max_age: Microseconds = Field(default=microseconds("30d"), description="Longest time from event to arrival.")
    ahead: Microseconds = Field(default=microseconds("5m"), description="How far an event may lie after its arrival.")
    unique_within: Microseconds = Field(default=microseconds("7d"), description="How long ids are remembered.")
    batch: BatchRules = BatchRules()

    @field_validator("columns")
    @classmethod
    def _in_order_of_names(cls, columns: dict[str, Column]) -> dict[str, Column]:
        return dict(sorted(columns.items()))

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        key = self.columns.get(self.key)
        if not isinstance(key, CategoryColumn) or key.nullable:
            raise ValueError(f"source {self.name!r}: key {self.key!r} must name a category column that is not nullable")
        for name in self.batch.max_null:
            if name not in self.columns:
                raise ValueError(f"source {self.name!r}: max_null names {name!r}, which is none of its columns")
        return self

    if not TYPE_CHECKING:  # for a type checker what is missing is missing

        def __getattr__(self, name: str) -> object:
            if not name.startswith("_") and name in {*self.columns, "by"}:
                raise AttributeError(f"source {self.name!r} has no {name}: its stream has, write {self.name}.stream()")
            return super().__getattr__(name)

        def __getitem__(self, name: str) -> NoReturn:
            raise TypeError(f"source {self.name!r} has no {shown(name)}: its stream has, write {self.name}.stream()")

    @cached_property
    def id(self) -> str:
        """The content address of the contract's canonical form."""
        return address(canonical(self))

    def model(self) -> type[BaseModel]:
        """Return a pydantic model of one record, the same verdicts as the decoder's, for documents and checks."""
        config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
        fields: dict[str, Any] = {
            name: (column.annotation() | None, Field(default=None, description=column.description))
            if column.nullable
            else (column.annotation(), Field(description=column.description))
            for name, column in self.columns.items()
        }
        return create_model(self.name, __config__=config, **fields)

    @written("stream()")
    def stream(self) -> feature_engine.Stream:
        """Return the source as a stream that features are written over; free text is left out."""
        columns = {name: _engine_column(column) for name, column in self.columns.items() if column.kind != "text"}
        return feature_engine.stream(self.name, key=self.key, columns=columns)


def _engine_column(column: CategoryColumn | FixedColumn | TimeColumn | BooleanColumn) -> feature_engine.ColumnType:
    match column:
        case CategoryColumn():
            return feature_engine.category()
        case FixedColumn():
            return number_type(column.unit, column.scale, column.lo, column.hi)
        case TimeColumn():
            return feature_engine.time()
        case BooleanColumn():
            return feature_engine.boolean()


class Settings(TypedDict, total=False):
    """The optional settings of a source: see `SourceContract`; durations as `'30d'`, `'24h'`, `'5m'`, `'90s'`."""

    partitions: int
    replay: bool
    event_time: Literal["ce_time"]
    max_age: str
    ahead: str
    unique_within: str
    batch: Mapping[str, object]


@written('source("orders", key="shop", columns={"shop": category("the shop")})')
def source(name: str, *, key: str, columns: Mapping[str, Column], **settings: Unpack[Settings]) -> SourceContract:
    """Declare a source.

    Raises DefinitionError for what is no column of a source, and pydantic's ValidationError with every fault when the
    contract contradicts itself.
    """
    _check_columns(name, columns)
    document = {"name": name, "key": key, "columns": dict(columns), **settings}
    return SourceContract.model_validate(document, context=AUTHORED)


def _check_columns(name: str, columns: object) -> None:
    if not isinstance(columns, Mapping):
        fix = 'write each with its name, columns={"shop": category("the shop")}'
        raise DefinitionError(f"source {name!r}", f"its columns are {shown(columns)}", fix)
    for column, declared in columns.items():
        if not isinstance(declared, get_args(get_args(Column)[0])):
            fix = 'call category("..."), text, fixed, time or boolean of mainstem.project, each with a description'
            raise DefinitionError(f"source {name!r}", f"its column {column!r} is {shown(declared)}", fix)
