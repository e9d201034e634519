"""Durations in a project: authors write `90s`, `5m`, `24h`, `7d`, definitions hold whole microseconds."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from mainstem.feature_engine.durations import microseconds


def _read(duration: object) -> object:
    return microseconds(duration) if isinstance(duration, str) else duration


#: A duration above zero, read from text or taken as microseconds.
Microseconds = Annotated[int, BeforeValidator(_read), Field(gt=0, strict=True)]
