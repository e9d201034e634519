"""What is in force: by what was known, and at an instant, whichever became known first."""

from mainstem.lineage.state import Change, in_force

CHANGES = [
    Change(leaf=1, from_us=100, slot="production", subject="m", value="1"),
    Change(leaf=2, from_us=300, slot="production", subject="m", value="3"),
    Change(leaf=3, from_us=200, slot="production", subject="m", value="2"),
    Change(leaf=4, from_us=300, slot="alert", subject="a", value="drift"),
    Change(leaf=5, from_us=300, slot="alert", subject="a", value=None),
]


def test_of_what_is_known_the_last_leaf_counts() -> None:
    assert [in_force(CHANGES, size).production.get("m") for size in range(5)] == [None, None, "1", "3", "2"]


def test_at_an_instant_the_last_change_up_to_it_counts_whenever_it_became_known() -> None:
    instants = (99, 100, 200, 299, 300)
    assert [in_force(CHANGES, 6, at).production.get("m") for at in instants] == [None, "1", "2", "2", "3"]
    assert in_force(CHANGES, 3, 299).production == {"m": "1"}


def test_of_two_changes_at_one_instant_the_later_leaf_counts() -> None:
    assert in_force(CHANGES, 6, 300).alerts == {}
    assert in_force(CHANGES, 5, 300).alerts == {"a": "drift"}
