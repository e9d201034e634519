"""What a model is: label, windows, estimator, gates.

At a cut T a run may use the rows recorded before T whose labels came in time and were recorded before T.
It fits on rows recorded in [T - training window, T - evaluation window) and evaluates on [T - evaluation window, T).
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mainstem.feature_engine import DefinitionError, FeatureSet
from mainstem.feature_engine.calls import by_names, written
from mainstem.feature_engine.expressions import shown
from mainstem.project.contract import Name, SetLabel
from mainstem.project.durations import AUTHORED, Microseconds

Share = Annotated[float, Field(ge=0, le=1)]


class Named(BaseModel):
    """What an author makes by calling its class: all that it takes has a name, and a duration is a text."""

    DURATIONS: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:

        def __new__(cls, *given: object, **settings: object) -> Self:
            """Refuse values without a name and durations that are none; pydantic sees to the rest."""
            by_names(cls.__name__, list(cls.model_fields), given)
            for name in cls.DURATIONS:
                if not isinstance(settings.get(name, ""), str):
                    problem = f"{name} is {shown(settings[name])}, which is not a duration"
                    raise DefinitionError(f"{cls.__name__}()", problem, f"write a text, {name}='24h'")
            return super().__new__(cls)


class Label(Named):
    """The truth about a spine record: whether a number in a later record of the same key lies above a threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    DURATIONS: ClassVar[tuple[str, ...]] = ("wait",)

    source: Name = Field(description="Source whose record brings the truth.")
    key: Name = Field(description="Column that the spine is keyed by, and that the source has too.")
    column: Name = Field(description="Number that decides; null decides nothing.")
    above: float = Field(allow_inf_nan=False, description="The label is true above this, in the column's unit.")
    wait: Microseconds = Field(description="Time after which a label that did not come counts as missing.")

    @classmethod
    @written("Label.of(ShopOrders)")
    def of(cls, feature_set: FeatureSet | type) -> Self:
        """Return the label that a feature set declares as its target; raise DefinitionError when it declares none.

        For a type checker a decorated class is still a class.
        """
        target = feature_set.compile().target if isinstance(feature_set, FeatureSet) else None
        if target is None:
            if not isinstance(feature_set, FeatureSet):
                fix = "give the class below @feature_set(...)"
                raise DefinitionError("Label.of()", f"{shown(feature_set)} is no feature set", fix)
            fix = "declare one beside the features, late = target(paid.amount > 0, on=..., wait=...)"
            raise DefinitionError("Label.of()", f"feature set {feature_set.name!r} has no target", fix)
        above = target.above.value / target.above.scale
        rule = {"source": target.stream, "key": target.on, "column": target.column, "above": above}
        return cls.model_validate({**rule, "wait": target.wait})

    def last_in_time(self, known_us: Sequence[int], event_us: int) -> int | None:
        """Return the place of the truth about what happened at `event_us`, or None when it did not come in time.

        `known_us` are the instants, rising, at which truths with the same key became known. The truth is the last of
        them that lies after the event, and no more than the wait.
        """
        place = bisect_right(known_us, event_us + self.wait) - 1
        return place if place >= 0 and known_us[place] > event_us else None


class Estimator(Named):
    """What is fitted. Parameters are those of the library; seed and categories are set by the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hist_gradient_boosting"] = "hist_gradient_boosting"
    params: dict[str, bool | int | float | str] = {}


class Gates(Named):
    """What a candidate must show on the evaluation window before anybody may approve it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_auc: Share = Field(description="Smallest area under the ROC curve.")
    max_auc_loss: Share = Field(description="Largest loss of AUC against the version in production.")
    confidence: Share = Field(description="Confidence with which the loss must stay below it.")
    max_calibration_error: Share = Field(description="Largest expected calibration error.")
    max_flips: int = Field(default=0, ge=0, description="Decisions the exported model may take otherwise.")


class ModelDefinition(BaseModel):
    """A model of a project. Made by `model()`; durations are microseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    feature_set: SetLabel = Field(description="Label of the feature set it reads: `buying`, `buying.v2`.")
    label: Label
    training_window: Microseconds = Field(description="How far before the cut the data begins.")
    evaluation_window: Microseconds = Field(description="How long before the cut is kept for evaluation.")
    estimator: Estimator
    gates: Gates
    seed: int = Field(ge=0, lt=2**32)

    @model_validator(mode="after")
    def _something_is_left_to_fit_on(self) -> Self:
        if self.evaluation_window >= self.training_window:
            raise ValueError(f"model {self.name!r}: the evaluation window takes the whole training window")
        return self


class Settings(TypedDict):
    """The settings of a model: see `ModelDefinition`; durations as `'120d'`, `'24h'`."""

    label: Label
    training_window: str
    evaluation_window: str
    estimator: Estimator
    gates: Gates
    seed: int


@written('model("late", feature_set="shop_orders", label=Label.of(ShopOrders), ...)')
def model(name: str, *, feature_set: str, **settings: Unpack[Settings]) -> ModelDefinition:
    """Declare a model; raise pydantic's ValidationError with every fault."""
    return ModelDefinition.model_validate({"name": name, "feature_set": feature_set, **settings}, context=AUTHORED)
