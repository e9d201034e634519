"""From expressions to the tables of the machine: one instruction for each different sub-expression."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mainstem.feature_engine.column_types import ColumnType, Kind
from mainstem.feature_engine.definition import Aggregate, Column, Expression, Local, Number, Operation, Text
from mainstem.feature_engine.inference import Value, aligned, infer
from mainstem.feature_engine.kernel import fields, machine
from mainstem.feature_engine.kernel.fields import Floats, Ints
from mainstem.feature_engine.kernel.tables import Tables
from mainstem.feature_engine.localtime import PARTS

_EXACT = {
    "add": machine.ADD,
    "sub": machine.SUB,
    "mul": machine.MUL,
    "neg": machine.NEG,
    "where": machine.WHERE,
    "clip": machine.CLIP,
    "lt": machine.LT,
    "le": machine.LE,
    "eq": machine.EQ,
    "and": machine.AND,
    "or": machine.OR,
    "not": machine.NOT,
    "is_null": machine.IS_NULL,
}
_MIRRORED = {"gt": "lt", "ge": "le"}
_LEVELLED = frozenset({"add", "sub", "lt", "le", "eq", "clip"})


@dataclass(frozen=True, slots=True)
class Code:
    """A compiled program: instructions, the registers of its results, and what it reads besides."""

    instructions: Ints
    results: Ints
    constants: Ints
    floats: Floats  #: float registers, each literal in its own
    texts: tuple[tuple[int, str, str], ...]  #: constants that are categories: place, column and text

    def lay(self, tables: Tables, number: Callable[[str, str], int]) -> None:
        """Put the program where the kernel finds it; constants that are categories have the numbers of now."""
        for place, column, text in self.texts:
            self.constants[place] = number(column, text)
        tables[fields.INSTRUCTIONS], tables[fields.RESULTS] = self.instructions, self.results
        tables[fields.CONSTANTS], tables[fields.REGISTERS] = self.constants, np.empty(len(self.instructions), np.int64)


def compile_exact(expressions: Sequence[Expression], columns: Mapping[str, ColumnType], zones: list[str]) -> Code:
    """Return a program that gives exact expressions over the columns of a stream; zones that are new are appended."""
    compiler = _Compiler(columns, zones)
    return compiler.code([compiler.exact(_normal(expression)) for expression in expressions])


def compile_rows(
    expressions: Sequence[Expression],
    columns: Mapping[str, ColumnType],
    zones: list[str],
    aggregates: Sequence[Aggregate],
) -> Code:
    """Return a program that gives features as float64, from the columns of the spine and the numbered aggregates."""
    compiler = _Compiler(columns, zones, aggregates)
    return compiler.code([compiler.floating(_normal(expression)) for expression in expressions])


@dataclass(slots=True)
class _Compiler:
    """Compiles expressions over the columns of one stream; equal sub-expressions share a register."""

    columns: Mapping[str, ColumnType]
    zones: list[str]  #: zones of local times, by number; those that are missing are appended
    aggregates: Sequence[Aggregate] = ()  #: aggregates that may be read, by number
    instructions: dict[tuple[int, ...], int] = field(default_factory=dict)
    constants: list[int | tuple[str, str]] = field(default_factory=list)  #: a category as its column and text
    literals: list[float] = field(default_factory=list)

    def code(self, results: Sequence[int]) -> Code:
        """Return what was compiled."""
        lines = [[*line, *[0] * (4 - len(line))] for line in self.instructions]
        literals = [self.literals[a] if op == machine.LITERAL else 0.0 for op, a, *_ in lines]
        return Code(
            np.array(lines, np.int64).reshape(-1, 4),
            np.array(results, np.int64),
            np.array([0 if isinstance(constant, tuple) else constant for constant in self.constants], np.int64),
            np.array(literals, np.float64),
            tuple((place, *found) for place, found in enumerate(self.constants) if isinstance(found, tuple)),
        )

    def exact(self, expression: Expression) -> int:
        """Return the register of an exact expression, in stored units."""
        match expression:
            case Column(name):
                return self._add(machine.LOAD, list(self.columns).index(name))
            case Number(value, _):
                return self._constant(value)
            case Operation("eq", (Column(name) as column, Text(text))):
                return self._add(machine.EQ, self.exact(column), self._constant((name, text)))
            case Local(part, zone, of):
                if zone not in self.zones:
                    self.zones.append(zone)
                return self._add(machine.LOCAL, self.exact(of), PARTS.index(part), self.zones.index(zone))
            case Operation("where", (condition, *choices)):
                return self._add(machine.WHERE, self.exact(condition), *self._levelled(choices))
            case Operation(op, args):
                return self._add(_EXACT[op], *(self._levelled(args) if op in _LEVELLED else map(self.exact, args)))
            case _:
                raise AssertionError(f"{expression} is not exact")

    def floating(self, expression: Expression) -> int:
        """Return the register of an expression as float64, in its unit."""
        match expression:
            case Number(value, scale):
                return self._literal(value / scale)
            case Aggregate():
                return self._add(machine.VALUE, self.aggregates.index(expression))
            case _ if (found := self._type(expression)).exact:
                return self._add(machine.DECODE, self.exact(expression), found.scale)
            case Operation("div", args):
                return self._add(machine.DIV, *map(self.floating, args))
            case Operation(op, args):
                return self._add(machine.ROW + _EXACT[op], *map(self.floating, args))
            case _:
                raise AssertionError(f"{expression} is exact")

    def _levelled(self, args: Sequence[Expression]) -> list[int]:
        """Return the registers of exact values brought to one scale."""
        types = [self._type(arg) for arg in args]
        if types[0].kind is not Kind.FIXED:
            return [self.exact(arg) for arg in args]
        _, factors = aligned(types)
        registers = []
        for arg, factor in zip(args, factors, strict=True):
            register = self.exact(arg)
            if factor > 1:
                register = self._add(machine.MUL, register, self._constant(factor))
            registers.append(register)
        return registers

    def _type(self, expression: Expression) -> Value:
        return infer(expression, self.columns)

    def _add(self, *instruction: int) -> int:
        return self.instructions.setdefault(instruction, len(self.instructions))

    def _constant(self, value: int | tuple[str, str]) -> int:
        if value not in self.constants:
            self.constants.append(value)
        return self._add(machine.NUMBER, self.constants.index(value))

    def _literal(self, value: float) -> int:
        if value not in self.literals:
            self.literals.append(value)
        return self._add(machine.LITERAL, self.literals.index(value))


def _normal(expression: Expression) -> Expression:
    """Return an expression of the same value in the operations of the machine."""
    match expression:
        case Local(part, zone, of):
            return Local(part, zone, _normal(of))
        case Operation("ne", args):
            return Operation("not", (_normal(Operation("eq", args)),))
        case Operation("gt" | "ge" as op, (one, other)):
            return Operation(_MIRRORED[op], (_normal(other), _normal(one)))
        case Operation("eq", (Text() as text, other)):
            return Operation("eq", (_normal(other), text))
        case Operation(op, args):
            return Operation(op, tuple(map(_normal, args)))
        case _:
            return expression
