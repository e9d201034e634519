"""Answers on graphs that hypothesis makes up, against plain Python over sets of edges: complete, and exact."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.lineage import Graph, Kind, Node, Relation, Sought, Unread, questions
from mainstem.lineage.assembly import Collected, assemble
from mainstem.lineage.columns import EdgeColumns, NodeColumns, Words
from mainstem.lineage.matching import Matching

NODES, LEAVES = 8, 8
TOPICS = ["src.a", "src.b"]

Arrow = tuple[int, int, Relation, int]


class World(NamedTuple):
    """Edges as drawn, and the leaf of each node that is established."""

    arrows: list[Arrow]
    established: dict[int, int]


def name(number: int) -> Node:
    return Node(list(Kind)[number % len(Kind)], str(number))


ROW = st.integers(0, NODES - 1)
LEAF = st.integers(0, LEAVES - 1)
RELATIONS = st.sampled_from([Relation.DEFINES, Relation.PRODUCED, Relation.LED_TO])
WORLDS = st.builds(
    World,
    st.lists(st.tuples(ROW, ROW, RELATIONS, LEAF), max_size=40),
    st.dictionaries(ROW, LEAF, max_size=NODES),
)
SIZES = st.integers(0, LEAVES)


def build(world: World) -> Graph:
    nodes, edges = NodeColumns(), EdgeColumns()
    for number, leaf in world.established.items():
        one = name(number)
        nodes.extend([one.key], one.kind, [number % 2], [leaf], [leaf * 10])
    for source, target, relation, leaf in world.arrows:
        ends = name(source), name(target)
        edges.extend([ends[0].key], [ends[1].key], (ends[0].kind, ends[1].kind), relation, [leaf])
    told = Collected(nodes, edges, Matching(), {}, {}, {}, TOPICS, (), ((0, LEAVES),), Unread())
    return assemble(told, LEAVES)


def plain(world: World) -> set[Arrow]:
    """Return the edges that a graph is to have, one by one."""
    least: dict[tuple[int, int, Relation], int] = {}
    for source, target, relation, leaf in world.arrows:
        if relation is Relation.LED_TO and source not in world.established:
            continue
        key = source, target, relation
        least[key] = min(leaf, least.get(key, leaf))
    found = set()
    for (source, target, relation), leaf in least.items():
        others = [
            at for (s, t, other), at in least.items() if (s, t) == (source, target) and other is not Relation.LED_TO
        ]
        hidden = relation is Relation.LED_TO and others and min(others) <= leaf
        if source != target and not hidden:
            found.add((source, target, relation, leaf))
    return found


def known(world: World) -> dict[int, int]:
    """Return the first leaf that establishes or names each node; a cause that is no event of the log names none."""
    first = dict(world.established)
    for source, target, relation, leaf in world.arrows:
        if relation is not Relation.LED_TO or source in world.established:
            for end in (source, target):
                first[end] = min(leaf, first.get(end, leaf))
    return first


def distances(arrows: Iterable[Arrow], starts: set[int], *, back: bool) -> dict[int, int]:
    """Return what is reached over at least one edge, and over how few."""
    steps: dict[int, set[int]] = {}
    for source, target, *_ in arrows:
        steps.setdefault(target if back else source, set()).add(source if back else target)
    found: dict[int, int] = {}
    frontier, entered, far = starts, set(starts), 1
    while frontier:
        reached = {end for one in frontier for end in steps.get(one, ())} - found.keys()
        found |= dict.fromkeys(reached, far)
        frontier, far = reached - entered, far + 1
        entered |= frontier
    return found


def numbers(graph: Graph, rows: Iterable[int]) -> set[int]:
    by_row = {int(graph.rows(name(number).key)[0]): number for number in range(NODES)}
    return {by_row[int(row)] for row in rows}


def there(world: World, size: int) -> list[int]:
    return sorted(number for number, leaf in known(world).items() if leaf < size)


@settings(max_examples=250)
@given(WORLDS, SIZES, st.sets(ROW, max_size=4), st.booleans())
def test_a_closure_is_all_that_edges_known_then_lead_to_with_shortest_paths(
    world: World, size: int, starts: set[int], back: bool
) -> None:
    graph = build(world).as_of(size)
    starts &= set(there(world, size))
    arrows = {arrow for arrow in plain(world) if arrow[3] < size}
    ask = questions.backward if back else questions.forward
    found = ask(graph, [name(number) for number in sorted(starts)])
    expected = distances(arrows, starts, back=back)
    assert numbers(graph, found.rows) == set(expected)
    for row in found.rows.tolist():
        (number,) = numbers(graph, [row])
        steps = found.path(row)
        assert len(steps) == expected[number]
        ends = [*(numbers(graph, [step.source, step.target]) for step in steps)]
        assert number in ends[0 if back else -1]
        assert ends[-1 if back else 0] & starts
        said = {(s.relation, s.leaf, frozenset(numbers(graph, [s.source, s.target]))) for s in steps}
        assert said <= {(relation, leaf, frozenset((a, b))) for a, b, relation, leaf in arrows}


@settings(max_examples=250)
@given(WORLDS, SIZES, st.lists(ROW, max_size=6))
def test_impact_is_the_union_of_what_each_node_went_into(world: World, size: int, starts: list[int]) -> None:
    graph = build(world).as_of(size)
    arrows = {arrow for arrow in plain(world) if arrow[3] < size}
    rows = graph.rows(b"".join(name(number).key for number in starts))
    found = questions.forward(graph, rows[rows >= 0])
    expected = {end for one in starts for end in distances(arrows, {one}, back=False)}
    assert numbers(graph, found.rows) == expected
    kinds = [name(number).kind for number in expected]
    assert found.by_kind() == {kind: kinds.count(kind) for kind in kinds}


@settings(max_examples=250)
@given(WORLDS, st.sets(ROW, min_size=1, max_size=3), st.sets(ROW, max_size=3), st.sampled_from(list(Kind)[:NODES]))
def test_absence_holds_exactly_where_no_path_leads_back(
    world: World, starts: set[int], wanted: set[int], kind: Kind
) -> None:
    graph = build(world)
    starts &= set(known(world))
    behind = {*distances(plain(world), starts, back=True), *starts}
    asked = [name(number) for number in sorted(starts)]
    by_name = questions.absence(graph, asked, Sought(nodes=[name(number) for number in sorted(wanted)]))
    assert numbers(graph, by_name.found) == behind & wanted
    assert by_name.absent == (not behind & wanted)
    by_kind = questions.absence(graph, asked, Sought(kind=kind))
    assert by_kind.absent == all(name(number).kind is not kind for number in behind)
    for answer in (by_name, by_kind):
        if answer.counterexample:
            assert answer.counterexample[0].source in answer.found.tolist()
            assert numbers(graph, [answer.counterexample[-1].target]) <= starts
        lacking = {number for number in behind - starts if number not in world.established}
        content = {number for number in lacking if name(number).kind in {Kind.ARTIFACT, Kind.DEFINITION}}
        reached = set(distances(plain(world), starts, back=True))
        assert numbers(graph, answer.unestablished) - starts == (lacking - content) & reached
        assert answer.proven == (answer.absent and not len(answer.unestablished))


@settings(max_examples=250)
@given(WORLDS, SIZES, SIZES)
def test_a_difference_is_what_one_size_knows_and_the_other_does_not(world: World, one: int, other: int) -> None:
    before, after = sorted((one, other))
    graph = build(world)
    found = questions.difference(graph, before, after)
    new = set(there(world, after)) - set(there(world, before))
    assert {number for rows in found.nodes.values() for number in numbers(graph, rows)} == new
    relations = [relation for *_, relation, leaf in plain(world) if before <= leaf < after]
    assert found.edges == {relation: relations.count(relation) for relation in relations}


@given(WORLDS, st.sets(ROW, min_size=1), st.sets(RELATIONS))
def test_only_the_relations_that_are_asked_for_are_followed(
    world: World, starts: set[int], relations: set[Relation]
) -> None:
    graph = build(world)
    starts &= set(known(world))
    found = questions.forward(graph, [name(number) for number in sorted(starts)], relations)
    arrows = {arrow for arrow in plain(world) if arrow[2] in relations}
    assert numbers(graph, found.rows) == set(distances(arrows, starts, back=False))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, unique=True))
def test_keys_that_share_half_their_bits_are_told_apart(pairs: list[tuple[int, int]]) -> None:
    words = Words(*(np.array(column, np.uint64) for column in zip(*pairs, strict=True)))
    ordered = words.take(words.order())
    assert list(zip(*(column.tolist() for column in ordered), strict=True)) == sorted(pairs)
    everything = [(high, low) for high in range(5) for low in range(5)]
    wanted = Words(*(np.array(column, np.uint64) for column in zip(*everything, strict=True)))
    found = ordered.find(wanted).tolist()
    assert found == [sorted(pairs).index(pair) if pair in pairs else -1 for pair in everything]


def test_a_path_to_what_is_not_reached_is_refused() -> None:
    graph = build(World([(0, 1, Relation.DEFINES, 0)], {}))
    with pytest.raises(KeyError, match="is not in this closure of 0 nodes"):
        questions.backward(graph, [name(0)]).path(graph.row(name(1)))


def test_a_graph_of_nothing_answers_nothing() -> None:
    graph = build(World([], {}))
    assert (graph.nodes, graph.edges, len(questions.forward(graph, []))) == (0, 0, 0)
    assert questions.difference(graph, 0, LEAVES).nodes == {}
    assert graph.unread.below(LEAVES) == 0


@pytest.mark.parametrize(("caused", "named", "edges"), [(3, 4, 2), (4, 4, 1), (5, 4, 1)])
def test_a_cause_is_not_told_again_from_where_on_a_name_says_the_same(caused: int, named: int, edges: int) -> None:
    world = World([(0, 1, Relation.LED_TO, caused), (0, 1, Relation.DEFINES, named)], {0: 0})
    graph = build(world)
    assert graph.edges == edges
    first = min(caused, named)
    known = [len(questions.forward(graph.as_of(size), [name(0)])) for size in (first, first + 1)]
    assert known == [0, 1]
