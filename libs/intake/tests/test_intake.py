"""Bad files are refused with the reason and at a bounded cost; honest ones are let in as what they are."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from libs.intake.tests import examining
from libs.intake.tests.honest_models import forest, of_hand, of_scikit_learn
from libs.intake.tests.hostile_models import model, node, noted, numbers, of_files, plain, sane, value
from libs.intake.tests.mixing_models import mixing

from mainstem.events.ids import content_id
from mainstem.intake import Limits, Refused, Tensor, admit

#: What one file may cost: processor time and memory of its sandbox, all of it.
MOST_S, MOST_BYTES = 2.0, 512 << 20


def test_every_bad_file_is_refused_with_the_reason_within_two_seconds_and_512_megabytes(tmp_path: Path) -> None:
    cases = {**of_files(tmp_path), **plain(), **mixing()}
    assert len(cases) >= 80
    folder, names = tmp_path / "cases", sorted(cases)
    folder.mkdir()
    for at, name in enumerate(names):
        (folder / f"{at:03}").write_bytes(cases[name][0])
    told = list(examined(folder))
    wrong = [
        (name, said["reason"])
        for name, said in zip(names, told, strict=True)
        if not re.search(cases[name][1], said["reason"] or "admitted") or not said["reason"].isprintable()
    ]
    assert wrong == []
    slow = [(name, said["busy_s"]) for name, said in zip(names, told, strict=True) if said["busy_s"] > MOST_S]
    assert slow == []
    assert max(said["bytes"] for said in told) <= MOST_BYTES


def test_the_largest_forest_is_let_in_and_a_larger_one_refused_by_its_size_within_that(tmp_path: Path) -> None:
    for name, trees in {"largest": 77, "larger": 78}.items():
        (tmp_path / name).write_bytes(forest(trees, 12))
    larger, largest = examined(tmp_path)
    assert largest["reason"] is None
    assert larger["reason"] == (
        "its trees have 958386 nodes and values of leaves, 950000 are allowed together; take fewer or shallower trees"
    )
    assert max(largest["busy_s"], larger["busy_s"]) <= MOST_S
    assert largest["bytes"] <= MOST_BYTES


def examined(folder: Path) -> Iterator[dict[str, Any]]:
    """Return what the gate says of each file of a folder."""
    ran = subprocess.run([sys.executable, examining.__file__, folder], stdout=subprocess.PIPE, text=True, check=True)
    return map(json.loads, ran.stdout.splitlines())


def test_every_honest_model_is_let_in() -> None:
    models = {**of_scikit_learn(), **of_hand()}
    assert len(models) >= 35
    assert {name: admit(content).digest for name, content in models.items()} == {
        name: content_id(content) for name, content in models.items()
    }


def test_a_model_is_known_by_what_it_takes_and_gives() -> None:
    admitted = admit(of_hand()["a choice"])
    assert admitted.inputs == (Tensor("x", "FLOAT", (None, 3)),)
    assert admitted.outputs == (Tensor("y", "FLOAT", (None, 3)),)
    assert admitted.opsets == {"": 18}
    assert admitted.operators == {"Greater": 1, "If": 1, "LeakyRelu": 1, "Relu": 1, "Shape": 1}


def test_what_an_author_says_is_shown_without_effect() -> None:
    assert admit(of_hand()["a choice"]).metadata == {"description": r"Two\nlines", "author": r"Zo\xeb"}


#: Bad files that are found by what the runtime does with them, and one that nothing is wrong with but its shape.
RUN = ["growth that shows in a run", "a tree that is a circle", "a tree with nodes that are not there"]
NOT_ROWS = "any width"


def test_who_asks_for_no_rows_is_given_any_shape_and_nothing_that_does_harm() -> None:
    cases = plain()
    assert admit(cases[NOT_ROWS][0], Limits(rows=False)).inputs == (Tensor("x", "DOUBLE", (None, None)),)
    for name in (*RUN, "an endless loop", "growth as a row says"):
        content, why = cases[name]
        with pytest.raises(Refused, match=why):
            admit(content, Limits(rows=False))


def test_a_size_that_a_model_does_not_take_is_no_reproach_where_any_dimension_may_be_open() -> None:
    shape = numbers("s", 2, 2)
    square = model([node("Reshape", ["x", "s"])], [shape], inputs=[value("x", [None])], outputs=[value("y", [2, 2])])
    with pytest.raises(Refused, match="does not run it on zeros"):
        admit(square.SerializeToString())
    assert admit(square.SerializeToString(), Limits(rows=False)).outputs == (Tensor("y", "DOUBLE", (2, 2)),)


def test_a_caller_may_ask_for_less() -> None:
    content = noted("author", "ann").SerializeToString()
    with pytest.raises(Refused, match="more than 0 nodes"):
        admit(content, Limits(nodes=0))
    with pytest.raises(Refused, match=f"it has {len(content)} bytes; a model has at least one and at most 5"):
        admit(content, Limits(bytes=5))


def test_a_file_that_takes_longer_than_asked_for_is_given_up() -> None:
    with pytest.raises(Refused, match=r"more than 0\.01 s of processor time"):
        admit(plain()["hours of work"][0], Limits(seconds=0.01))


def test_the_same_file_has_the_same_verdict() -> None:
    content = sane().SerializeToString()
    assert admit(content) == admit(content)
