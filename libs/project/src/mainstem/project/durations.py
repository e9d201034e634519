"""Durations in a project: authors write `90s`, `5m`, `24h`, `7d`, definitions hold whole microseconds."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field, ValidationInfo

from mainstem.feature_engine.durations import microseconds

#: The context in which a document is validated that an author wrote: there a bare number is no duration.
AUTHORED: Final = "authored"


def _read(duration: object, info: ValidationInfo) -> object:
    if isinstance(duration, str):
        return microseconds(duration)
    if info.context == AUTHORED:
        raise ValueError(f"{duration!r} is not a duration: write a text of a number and a unit, like '6h'")
    return duration


#: A duration above zero, read from text or taken as microseconds.
Microseconds = Annotated[int, BeforeValidator(_read), Field(gt=0, strict=True)]
