"""Who answers for a project, what for, at which risk and worth (`project.toml`)."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from mainstem.project.contract import Name

Score = Annotated[int, Field(ge=1, le=5)]
#: The regulatory exposure of a use that no rule covers.
UNREGULATED: Final = 1
Tier = Literal["low", "medium", "high"]


class Owners(BaseModel):
    """The two who answer for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    technical: str = Field(min_length=1, description="Answers for code, data and operation.")
    business: str = Field(min_length=1, description="Answers for the use that is made of it.")


class Risk(BaseModel):
    """The rubric that sets the ceremony, each from 1 (harmless) to 5."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    impact: Score = Field(description="Harm that a wrong answer can do.")
    autonomy: Score = Field(description="How far answers act without a person.")
    reversibility: Score = Field(description="How hard it is to undo what an answer set off.")
    regulatory_exposure: Score = Field(description="How closely the use is regulated.")

    @property
    def tier(self) -> Tier:
        """`high` when one score is 5 or the sum is 14 or more, `medium` from a sum of 9, else `low`."""
        scores = (self.impact, self.autonomy, self.reversibility, self.regulatory_exposure)
        if max(scores) == 5 or sum(scores) >= 14:
            return "high"
        return "medium" if sum(scores) >= 9 else "low"


class Value(BaseModel):
    """What one answer of each kind is worth; a cost is negative."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str = Field(pattern=r"^[A-Z]{3}$")
    true_positive: float = Field(allow_inf_nan=False)
    false_positive: float = Field(allow_inf_nan=False)
    true_negative: float = Field(allow_inf_nan=False)
    false_negative: float = Field(allow_inf_nan=False)


class Charter(BaseModel):
    """The content of `project.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    purpose: str = Field(min_length=1, description="What it is used for, in a sentence.")
    owners: Owners
    risk: Risk
    value: Value
