"""What was read of the log is kept for the next dataset of the same subject, and not for ever."""

import json
from typing import Any

import pytest
from services.training.tests.training_log import RANGES
from services.training.tests.training_parts import Parts

from mainstem.project import ProjectDefinition
from mainstem.testkit.projects import storms
from mainstem.training.history.log import Subject
from mainstem.training.history.reading import Histories, Reading


def subject(above: float) -> Subject:
    """Return what a model learns from whose label is true above a loss."""
    definition = labelled(storms(), above)
    return Subject.of(definition, definition.models["storm"])


def labelled(definition: ProjectDefinition, above: float) -> ProjectDefinition:
    document: dict[str, Any] = json.loads(definition.canonical())
    for model in document["models"].values():
        model["label"]["above"] = above
    return ProjectDefinition.model_validate(document)


def test_subjects_in_turn_have_each_a_history_of_its_own() -> None:
    histories = Histories()
    first, second = histories.of(subject(1.0)), histories.of(subject(2.0))
    assert first is not second
    assert [histories.of(subject(above)) for above in (1.0, 2.0, 1.0)] == [first, second, first]


def test_the_history_that_was_asked_for_longest_ago_goes_when_there_are_too_many() -> None:
    histories = Histories(most=2)
    first, second = histories.of(subject(1.0)), histories.of(subject(2.0))
    assert histories.of(subject(1.0)) is first
    histories.of(subject(3.0))
    assert histories.of(subject(1.0)) is first
    assert histories.of(subject(2.0)) is not second


@pytest.mark.real
async def test_of_two_subjects_that_are_read_in_turn_each_record_is_read_once(kafka: str, parts: Parts) -> None:
    reading, begun = Reading(kafka), list[int | None]()
    for above in (1.0, 2.0, 1.0, 2.0):
        definition, told = labelled(parts.definition, above), list[int]()

        def hear(read: int, _there: int, told: list[int] = told) -> None:
            told.append(read)

        await reading(definition, definition.models[parts.model], RANGES, hear)
        begun.append(told[0] if told else None)
    assert begun == [0, 0, None, None]
