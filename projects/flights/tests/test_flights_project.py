"""The folder is a valid project; its contracts let honest records pass and refuse the damaged ones."""

from collections import Counter

from projects.flights.damage import PER_KIND, Damage, damaged_events
from projects.flights.data import Events

from mainstem.project import Decoder, ProjectDefinition, Reason, parse

#: All dirt there is in the year: one gust of 1,048 mph.
DIRT = {"observed-2013-02-12T08Z-EWR": Reason.OUT_OF_RANGE}


def judged(project: ProjectDefinition, events: dict[str, Events]) -> dict[str, Reason | None]:
    verdicts: dict[str, Reason | None] = {}
    for name, source in events.items():
        times = source.event_time_us, source.arrival_us
        faults = Decoder(project.sources[name]).judge(source.payloads, source.keys, *times).faults
        verdicts |= {record: fault and fault.reason for record, fault in zip(source.ids, faults, strict=True)}
    return verdicts


def test_the_definition_survives_its_canonical_form(project: ProjectDefinition) -> None:
    assert parse(project.canonical()) == project
    assert parse(project.canonical()).id == project.id


def test_the_model_reads_exactly_fifteen_features(project: ProjectDefinition) -> None:
    feature_set = project.feature_sets[project.models["arrival_delay"].feature_set].compiled
    assert len(feature_set.names) == 15
    assert feature_set.spine == "flight_departed"


def test_every_honest_record_passes_but_for_the_dirt(project: ProjectDefinition, honest: dict[str, Events]) -> None:
    verdicts = judged(project, honest)
    assert {record: reason for record, reason in verdicts.items() if reason} == DIRT


def test_there_are_a_thousand_damaged_records_of_ten_kinds(damage: Damage) -> None:
    assert Counter(damage.book.values()) == dict.fromkeys(list(Counter(damage.book.values())), PER_KIND)
    assert len(damage.book) == sum(map(len, damage.events.values())) == 1_000
    assert {len(events) for events in damage.events.values()} == {250}


def test_every_damaged_record_is_refused_for_the_reason_in_the_book(project: ProjectDefinition, damage: Damage) -> None:
    expected = {
        record: None if reason is Reason.DUPLICATE_ID else reason  # uniqueness is judged across batches
        for record, reason in damage.book.items()
    }
    assert judged(project, damage.events) == expected


def test_only_duplicates_carry_the_id_of_an_honest_record(honest: dict[str, Events], damage: Damage) -> None:
    honest_ids = {record for events in honest.values() for record in events.ids}
    shared = {record for record in damage.book if record in honest_ids}
    assert shared == {record for record, reason in damage.book.items() if reason is Reason.DUPLICATE_ID}


def test_a_duplicate_comes_after_its_original_and_while_its_id_is_remembered(
    project: ProjectDefinition, honest: dict[str, Events], damage: Damage
) -> None:
    for name, events in damage.events.items():
        originals = dict(zip(honest[name].ids, honest[name].arrival_us.tolist(), strict=True))
        again = zip(events.ids, events.arrival_us.tolist(), strict=True)
        lags = [arrival - originals[record] for record, arrival in again if record in originals]
        assert len(lags) == PER_KIND // 4
        assert all(0 < lag < project.sources[name].unique_within for lag in lags)


def test_the_damage_reaches_every_month_of_every_source(damage: Damage) -> None:
    for events in damage.events.values():
        months = events.arrival_us.astype("datetime64[us]").astype("datetime64[M]")
        assert len(set(months.tolist())) >= 12


def test_the_damage_is_the_same_every_time(
    project: ProjectDefinition, honest: dict[str, Events], damage: Damage
) -> None:
    again = damaged_events(honest, project.sources)
    assert again.book == damage.book
    assert [events.payloads for events in again.events.values()] == [
        events.payloads for events in damage.events.values()
    ]
