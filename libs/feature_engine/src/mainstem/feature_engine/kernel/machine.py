"""The machine that evaluates expressions: a program is a table, one instruction a register.

An instruction is (operation, a, b, c). Exact instructions read and write integers, NULL for null; the others float64,
NaN for null. Operands are registers of the instructions before; what is read besides is said at the operation.
"""

from typing import TypeAlias

import numpy as np

from mainstem.feature_engine.jit import jit
from mainstem.feature_engine.kernel.fields import NULL, Floats, Ints

Program: TypeAlias = tuple[Ints, Ints, Ints, Ints]
"""Instructions; the registers of the results; constants; the clocks."""

LOAD, NUMBER = 0, 1
"""Exact: column a of the event; constant a."""
ADD, SUB, MUL, NEG, WHERE, CLIP = 2, 3, 4, 5, 6, 7
"""Exact, of registers a, b, c; WHERE is b if a else c, CLIP holds a between b and c."""
LT, LE, EQ, AND, OR, NOT, IS_NULL = 8, 9, 10, 11, 12, 13, 14
"""Exact truths of registers."""
LOCAL = 15
"""Exact: part b of the instant in register a, on the clock of zone c."""
DECODE, VALUE, LITERAL = 16, 17, 18
"""Floats: exact register a divided by b; aggregate a; a literal, which is in its register beforehand."""
ROW = 19
"""From here on: the float twin of the exact operation ROW + ADD, and so on; ROW + 0 is a quotient."""
DIV = ROW

HOUR, MINUTE_OF_DAY, DAY_OF_WEEK, HOUR_OF_WEEK = range(4)

_DAY = 86_400


@jit
def exact(program: Program, events: Ints, line: int, registers: Ints) -> None:
    """Run the exact instructions of a program on an event."""
    instructions, _, constants, clocks = program
    for r in range(len(instructions)):
        op, a, b, c = instructions[r, 0], instructions[r, 1], instructions[r, 2], instructions[r, 3]
        if op == LOAD:
            registers[r] = events[a, line]
        elif op == NUMBER:
            registers[r] = constants[a]
        elif op <= CLIP:
            registers[r] = arithmetic(op, registers[a], registers[b], registers[c])
        elif op <= IS_NULL:
            registers[r] = truth(op, registers[a], registers[b])
        elif op == LOCAL:
            registers[r] = local(clocks, c, registers[a], b)


@jit
def arithmetic(op: int, x: int, y: int, z: int) -> int:
    """Return an exact number; the compiler has shown that none overflows."""
    result = NULL
    if op == WHERE:
        result = x if x == NULL else y if x != 0 else z
    elif x == NULL or (op != NEG and y == NULL):
        result = NULL
    elif op == ADD:
        result = x + y
    elif op == SUB:
        result = x - y
    elif op == MUL:
        result = x * y
    elif op == NEG:
        result = -x
    else:
        result = min(max(x, y), z)
    return int(result)


@jit
def truth(op: int, x: int, y: int) -> int:
    """Return 1, 0 or NULL; `and`, `or` and `not` are those of three-valued logic."""
    if op <= EQ:
        return compared(op, x, y)
    result = NULL
    if op == IS_NULL:
        result = 1 if x == NULL else 0
    elif op == NOT:
        result = NULL if x == NULL else 1 - x
    elif op == AND and (x == 0 or y == 0):
        result = 0
    elif op == OR and (x == 1 or y == 1):
        result = 1
    elif NULL not in (x, y):
        result = x
    return int(result)


@jit
def compared(op: int, x: int, y: int) -> int:
    """Return whether x < y, x <= y or x == y: 1, 0 or NULL."""
    if NULL in (x, y):
        return NULL
    holds = x < y if op == LT else x <= y if op == LE else x == y
    return 1 if holds else 0


@jit
def local(clocks: Ints, zone: int, instant: int, part: int) -> int:
    """Return a part of an instant on the clock of a zone."""
    if instant == NULL:
        return NULL
    low, high, second = clocks[zone, 0], clocks[zone, 1], instant // 1_000_000
    while high - low > 1:
        middle = (low + high) >> 1
        if clocks[middle, 0] <= second:
            low = middle
        else:
            high = middle
    second += clocks[low, 1]
    hour, day = second // 3600 % 24, (second // _DAY + 3) % 7
    if part == HOUR:
        return int(hour)
    if part == MINUTE_OF_DAY:
        return int(second // 60 % 1440)
    return int(day if part == DAY_OF_WEEK else day * 24 + hour)


@jit
def floating(program: Program, registers: Ints, values: Floats, line: int, results: Floats) -> None:
    """Run the other instructions of a program, after the exact ones; `values` are those of the aggregates."""
    instructions = program[0]
    for r in range(len(instructions)):
        op, a, b, c = instructions[r, 0], instructions[r, 1], instructions[r, 2], instructions[r, 3]
        if op == DECODE:
            results[r] = registers[a] / b if registers[a] != NULL else np.nan
        elif op == VALUE:
            results[r] = values[line, a]
        elif op >= ROW + LT:
            results[r] = decided(op - ROW, results[a], results[b])
        elif op >= ROW:
            results[r] = calculated(op - ROW, results[a], results[b], results[c])


@jit
def calculated(op: int, x: float, y: float, z: float) -> float:
    """Return the float64 of an operation; null for a quotient by zero and for what is not finite."""
    result = np.nan
    if op == WHERE:
        result = x if np.isnan(x) else y if x != 0 else z
    elif np.isnan(x) or (op != NEG and np.isnan(y)):
        result = np.nan
    elif op == ADD:
        result = x + y
    elif op == SUB:
        result = x - y
    elif op == MUL:
        result = x * y
    elif op == NEG:
        result = -x
    elif op == CLIP:
        result = min(max(x, y), z)
    elif y != 0:
        result = x / y
    return result if np.isfinite(result) else np.nan


@jit
def decided(op: int, x: float, y: float) -> float:
    """Return 1.0, 0.0 or NaN."""
    if op <= EQ:
        if np.isnan(x) or np.isnan(y):
            return np.nan
        holds = x < y if op == LT else x <= y if op == LE else x == y
        return 1.0 if holds else 0.0
    known = truth(op, NULL if np.isnan(x) else int(x), NULL if np.isnan(y) else int(y))
    return np.nan if known == NULL else float(known)
