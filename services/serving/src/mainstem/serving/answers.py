"""Direct calls: answered from the board, recorded in the spool."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from random import Random
from time import monotonic, monotonic_ns
from typing import Final, NamedTuple

import numpy as np
from msgspec.structs import replace

from mainstem.bus.spool import Spool, SpoolFull
from mainstem.events.errors import MainstemError
from mainstem.events.instants import render
from mainstem.inference.errors import BadRequest, NoAnswer, NotReady, TooLarge, Unknown
from mainstem.serving.arms import Route
from mainstem.serving.blocks import At, pack, prediction_id
from mainstem.serving.board import Board
from mainstem.serving.domain import Activation, LogTime, Usage, no_probability
from mainstem.serving.engine import NO_FAULTS, RUN_FAULTS, RanOut
from mainstem.serving.entities import AsOf, Entities, Floats, Lookup
from mainstem.serving.lookups import Lookups
from mainstem.serving.meters import Meter, Meters, count_errors
from mainstem.serving.ports import Answer, Question
from mainstem.serving.shadows import Shadows
from mainstem.telemetry import Tracer

#: A direct call may ask about this many rows.
MAX_ROWS = 4096
#: Its id and its entity may have this many characters each: both stand in every prediction.
MAX_NAME = 1024
#: Of calls whose records would be dropped, this share is recorded.
SAMPLE: Final = 0.01
#: Draws that sample; no secret.
_drawn: Final = Random().random
_NO_ROWS: Final = np.empty((0, 0))

#: A question, and its place among those that were asked together.
Call = tuple[int, Question]
#: By place the answer, or why there is none.
Found = list[Answer | MainstemError | None]


class Run(NamedTuple):
    """What a version says to calls, before any of it is given; rows and probabilities are those of all in turn."""

    live: Activation
    meter: Meter
    at: At
    calls: Sequence[Call]
    rows: Floats
    probabilities: Floats

    def part(self, places: Collection[int]) -> "Run":
        """Return what it says to the calls at some places."""
        chosen = [at in places for at, _ in self.calls]
        rows = np.repeat(chosen, [len(question.rows) for _, question in self.calls])
        calls = [call for call in self.calls if call[0] in places]
        return self._replace(calls=calls, rows=self.rows[rows], probabilities=self.probabilities[rows])


class Answers:
    """Answers direct calls, each recorded in the spool before it is given."""

    def __init__(self, board: Board, log: LogTime, spool: Spool, tracer: Tracer, lookups: Lookups) -> None:
        self._board = board
        self._lookups = lookups
        self._log = log
        self._spool = spool
        self._tracer = tracer
        #: What each version did, and what its rows take.
        self.meters = Meters()
        self._rendered = (0, render(0))
        #: What is scored behind the answers.
        self.shadows = Shadows(board, spool)

    def usage(self) -> list[Usage]:
        """Return what was done for each version that was asked for."""
        return self.meters.usage()

    def refuse(self, model: str, version: str | None) -> None:
        """Count a call that is not what the model takes; one to what does not answer counts nowhere."""
        with suppress(MainstemError):
            self.meters.of(self._board.about(model, version)).usage.refused += 1

    def expected_s(self, question: Question) -> float:
        """Return how long it takes to answer a question (s), by what a row of the version took lately."""
        meter = self._meter(question)
        rows = len(question.rows)
        return 0.0 if meter is None or rows > MAX_ROWS else meter.expected_s(rows)  # too many are refused for that

    def passed_over(self, questions: Iterable[Question]) -> None:
        """Expect the versions that were not asked to have become faster: one slow run must not refuse all after it."""
        self.meters.hope({meter for question in questions if (meter := self._meter(question)) is not None})

    def _meter(self, question: Question) -> Meter | None:
        """Return what counts for the version that a question is for; None where there is none."""
        try:
            route = self._board.route(question.model)
            if question.version is None and route.shared:
                return self.meters.of(route.of(question.entity or question.id))
            return self.meters.of(route.named(question.version))
        except Unknown:
            return None

    def answer(self, question: Question) -> Answer:
        """Answer and record. Raises BadRequest, Unknown, NotReady or NoAnswer; then nothing was recorded."""
        (found,) = self.answer_all([question])
        if isinstance(found, MainstemError):
            raise found
        return found

    def answer_all(self, questions: Sequence[Question]) -> list[Answer | MainstemError]:
        """Answer questions, each by itself: one that cannot be answered has the reason in its place.

        Those on one version are one run of it and one block of the spool, which is kept before any of them is given.
        What is raised that nobody expected is passed on.
        """
        found: Found = [None] * len(questions)
        self.answer_into(found, questions, monotonic())
        return [one for one in found if one is not None]

    def answer_into(self, found: Found, questions: Sequence[Question], since_s: float) -> None:
        """Put into its place what `answer_all` says to each question; the first of them came at `since_s`.

        What is raised that nobody expected is passed on once those that were asked with it have it as their answer;
        those whose place is still empty were not tried.
        """
        try:
            self._answer_groups(found, questions, since_s)
        finally:
            for one in found:
                if isinstance(one, MainstemError):
                    # Its frames hold the rows that were sent, and what holds it: nobody but the collector would end it.
                    one.__traceback__ = one.__context__ = one.__cause__ = None

    def _answer_groups(self, found: Found, questions: Sequence[Question], since_s: float) -> None:
        groups: dict[tuple[str, str | None], list[Call]] = {}
        for call in enumerate(questions):
            groups.setdefault((call[1].model, call[1].version), []).append(call)
        for (name, version), calls in groups.items():
            try:
                route = self._board.route(name)
                parts = _shared(route, calls) if version is None else [(route.named(version), calls)]
            except MainstemError as fault:
                _fill(found, calls, fault)
                count_errors("", "", ((asked, fault) for _, asked in calls))
                continue
            for live, some in parts:
                self._answer_group(live, () if version else route.shadows, some, found, since_s)

    def _answer_group(
        self, live: Activation, shadows: Iterable[Activation], calls: Sequence[Call], found: Found, since_s: float
    ) -> None:
        """Answer calls on one version, count those that have no answer, and put the others before its shadows."""
        meter, began = self.meters.of(live), monotonic()
        answered, usage = meter.answered, meter.usage
        ran = usage.rows
        try:
            taken, rows = self._run(live, meter, calls, found, since_s)
            for shadow in shadows:
                self.shadows.put(shadow, [(asked, found[at]) for at, asked in taken], rows)
        except Exception:  # nobody expected it: whoever waits is told, and it is passed on
            for at, asked in calls:
                found[at] = found[at] or failed(asked)
            raise
        finally:
            if usage.rows > ran:
                self.meters.took(meter, usage.rows - ran, monotonic() - began)
            given = meter.answered - answered
            meter.ended(given, len(calls) - given)
            if given < len(calls):
                count_errors(live.model, str(live.version), ((asked, found[at]) for at, asked in calls))

    def _run(
        self, live: Activation, meter: Meter, calls: Sequence[Call], found: Found, since_s: float
    ) -> tuple[Sequence[Call], Floats]:
        """Answer calls on one version; return those that it ran for, and their rows below each other."""
        try:
            model = self._board.model(live)
        except NotReady as fault:
            _fill(found, calls, fault)
            return (), _NO_ROWS
        known, as_of = self._looked_up(live, calls, found)
        taken, rows = _accepted(known, model.width, found)
        if not taken:
            return (), _NO_ROWS
        began, began_s = monotonic_ns(), monotonic()
        try:
            probabilities, why = model.probabilities(rows, max(asked.until for _, asked in taken)), NO_FAULTS
        except RanOut as fault:
            self.meters.took(meter, fault.rows, monotonic() - began_s, long=True)
            _fill(found, taken, fault)
            return (), _NO_ROWS
        except RUN_FAULTS:
            probabilities, why = model.probabilities_apart([question.rows for _, question in taken])
        meter.ran(len(rows), began / 1e9 - since_s, monotonic_ns() - began)
        if not isfinite(np.add.reduce(probabilities, axis=None)):  # probabilities are small: none overflows the sum
            taken, rows, probabilities = _with_number(live, taken, probabilities, why, found)
        run = Run(
            live, meter, self._at(live, as_of), [(at, self._traced(asked)) for at, asked in taken], rows, probabilities
        )
        if live.model in self._board.droppable:
            self._give_anyway(run, found)
        else:
            try:
                self._give(run, found)
            except SpoolFull as fault:
                _fill(found, taken, NotReady(f"the answer cannot be recorded, so it is not given: {fault}"))
        return taken, rows

    def _looked_up(self, live: Activation, calls: Sequence[Call], found: Found) -> tuple[Sequence[Call], AsOf | None]:
        """Return calls with their rows, and where those were read that were not brought; refuse what cannot be read."""
        asked = [call for call in calls if call[1].columns is not None]
        if not asked:
            return calls, None
        try:
            lookup = self._lookups.of(live)
            as_of = lookup.as_of()
        except MainstemError as fault:
            _fill(found, asked, fault)
            return [call for call in calls if call[1].columns is None], None
        known = _read(lookup, asked, found)
        return [known.get(call[0], call) for call in calls if found[call[0]] is None], as_of

    def _give_anyway(self, run: Run, found: Found) -> None:
        """Record answers and give them; give them also when they cannot be recorded.

        A model that need not keep every record leaves the reserve of the spool to those that must, and to a sample of
        its own calls, of which each is as likely as any other.
        """
        try:
            return self._give(run, found, leave=self._spool.reserve)
        except SpoolFull:
            drawn = {at for at, _ in run.calls if _drawn() < SAMPLE}
        try:
            self._give(run.part(drawn), found)
        except SpoolFull:
            drawn = set()
        rest = run.part({at for at, _ in run.calls} - drawn)
        run.meter.dropped(len(rest.rows))
        return self._put(rest, found, None)

    def _give(self, run: Run, found: Found, *, leave: int = 0) -> None:
        """Record answers, then put them where they belong. Raises SpoolFull; then none of them was given."""
        number = self._spool.next_number
        if len(run.rows):
            asked = [question for _, question in run.calls]
            block = pack(self._board.form(run.live), asked, run.rows, run.probabilities[:, 1], run.at)
            self._spool.append(block, len(run.rows), leave=leave)
            run.meter.recorded(len(run.rows))
        self._put(run, found, number)

    def _put(self, run: Run, found: Found, number: int | None) -> None:
        """Put answers where they belong; their records are numbered from `number` on, or there are none."""
        live, (recorded, position, as_of) = run.live, run.at
        begin = 0
        for at, question in run.calls:
            count = len(question.rows)
            name = prediction_id(self._spool.incarnation, number + begin) if count and number is not None else None
            given = run.probabilities[begin : begin + count]
            stood = None if question.columns is None else as_of
            trace = question.traceparent
            found[at] = Answer(live.model, live.version, question.id, given, position, recorded, name, stood, trace)
            begin += count
        run.meter.gave([question for _, question in run.calls])

    def _at(self, live: Activation, as_of: AsOf | None) -> At:
        """Return where a version's answers are recorded now."""
        reached_us, position = self._log.of(live.topic)
        return At(self._text_of(max(reached_us, live.effective_us)), position, as_of)

    def _traced(self, question: Question) -> Question:
        """Return a question with the trace that its answer goes on with."""
        if question.traceparent is None and not (self._tracer.share and self._tracer.drawn()):
            return question
        name, asked, parent = f"answer {question.model}", {"request.id": question.id}, question.traceparent
        trace = self._tracer.begin(name, asked) if parent is None else self._tracer.step(parent, name, asked)
        return replace(question, traceparent=trace)

    def _text_of(self, instant_us: int) -> str:
        """Return an instant as text; most turns have that of the turn before."""
        if instant_us != self._rendered[0]:
            self._rendered = instant_us, render(instant_us)
        return self._rendered[1]


def failed(question: Question) -> NoAnswer:
    """Say that a call has no answer for a reason that the log tells, since nobody expected it."""
    return NoAnswer(f"request {question.id} failed for a reason that is the server's; its log says which")


def _shared(route: Route, calls: Sequence[Call]) -> Iterable[tuple[Activation, Sequence[Call]]]:
    """Return which version answers which calls; one entity is always answered by the same."""
    if not route.shared:
        return [(route.first, calls)]
    parts: dict[int, tuple[Activation, list[Call]]] = {}
    for call in calls:
        live = route.of(call[1].entity or call[1].id)
        parts.setdefault(live.version, (live, []))[1].append(call)
    return parts.values()


def _read(lookup: Lookup, calls: Sequence[Call], found: Found) -> dict[int, Call]:
    """Return calls that describe entities with the features of these, by their place; refuse what describes none."""
    taken: list[Call] = []
    described: list[Entities] = []
    for call in calls:
        at, question = call
        try:
            if len(question.rows) > MAX_ROWS:
                raise TooLarge(f"{len(question.rows)} entities in one request, at most {MAX_ROWS}; send them in parts")
            described.append(lookup.entities(question.columns or {}))
            taken.append(call)
        except MainstemError as fault:
            found[at] = fault
    known: dict[int, Call] = {}
    begin, values = 0, lookup.read(described) if described else _NO_ROWS
    for (at, question), entities in zip(taken, described, strict=True):
        end = begin + entities.number
        known[at] = at, replace(question, rows=values[begin:end])
        begin = end
    return known


def _accepted(calls: Sequence[Call], width: int, found: Found) -> tuple[Sequence[Call], Floats]:
    """Return the calls that a model of so many inputs can answer, and their rows below each other; refuse the rest."""
    taken: list[Call] = []
    for call in calls:
        try:
            _check(call[1], width)
        except MainstemError as fault:
            found[call[0]] = fault
        else:
            taken.append(call)
    rows = _below(taken, width)
    if not np.logical_or.reduce(np.isinf(rows), axis=None):
        return taken, rows
    infinite = [call for call in taken if np.isinf(call[1].rows).any()]
    no_event = "input 'features' holds an infinity, which no event can carry; send NaN for a missing value"
    _fill(found, infinite, BadRequest(no_event))
    rest = [call for call in taken if found[call[0]] is None]
    return rest, _below(rest, width)


def _with_number(
    live: Activation, calls: Sequence[Call], probabilities: Floats, why: Mapping[int, str], found: Found
) -> tuple[Sequence[Call], Floats, Floats]:
    """Return the calls that the model gave a probability for each row, their rows and these; refuse the rest."""
    ends = np.cumsum([len(question.rows) for _, question in calls])
    parts = np.split(probabilities, ends[:-1])
    good = [np.isfinite(part).all() for part in parts]
    for place, ((at, question), fine) in enumerate(zip(calls, good, strict=True)):
        if not fine:
            found[at] = NoAnswer(no_probability(live, why.get(place), f" for request {question.id}"))
    rest = [call for call in calls if found[call[0]] is None]
    numbers = [part for part, fine in zip(parts, good, strict=True) if fine]
    return rest, _below(rest, calls[0][1].rows.shape[1]), np.concatenate([np.empty((0, 2)), *numbers])


def _below(calls: Sequence[Call], width: int) -> Floats:
    """Return the rows of calls below each other."""
    if len(calls) == 1:
        return calls[0][1].rows
    return np.concatenate([question.rows for _, question in calls]) if calls else np.empty((0, width))


def _fill(found: Found, calls: Sequence[Call], fault: MainstemError) -> None:
    for at, _ in calls:
        found[at] = fault


def _check(question: Question, width: int) -> None:
    shape = question.rows.shape
    if len(shape) != 2 or shape[1] != width:
        raise BadRequest(f"input 'features' has shape {list(shape)}, model {question.model!r} takes [-1, {width}]")
    if len(question.id) > MAX_NAME:
        raise TooLarge(f"the id of the request has {len(question.id)} characters, at most {MAX_NAME}")
    if question.entity is not None and len(question.entity) > MAX_NAME:
        raise TooLarge(f"the entity of the request has {len(question.entity)} characters, at most {MAX_NAME}")
    if shape[0] > MAX_ROWS:
        raise TooLarge(f"{shape[0]} rows in one request, at most {MAX_ROWS}; send them in parts")
