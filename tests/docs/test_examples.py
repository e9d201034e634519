"""The examples of the pages: run in the order of the page, each result held against the comment below its statement."""

import ast
import sys
from code import InteractiveInterpreter
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from tests.docs.pages import CHECKOUT, PAGES, Block, blocks
from typing_extensions import override

EXAMPLES: Final = [block for page in PAGES for block in blocks(page) if block.is_example]

#: What was printed, and what the page shows.
Results = list[tuple[str, str]]


class Reader(InteractiveInterpreter):
    """Runs statement by statement, and prints what is wrong as a page shows it."""

    @override
    def showtraceback(self) -> None:
        """Print the last line of the traceback."""
        fault = sys.exc_info()[1]
        print(f"{type(fault).__name__}: {fault}")


def place(block: Block) -> str:
    return f"{block.page.relative_to(CHECKOUT)}:{block.line}"


@pytest.mark.parametrize("block", EXAMPLES, ids=place)
def test_an_example_gives_what_its_page_shows(block: Block) -> None:
    results = outcomes(block.page)[block.line]
    assert [printed for printed, _ in results] == [shown for _, shown in results]


@pytest.mark.parametrize("page", sorted({block.page for block in EXAMPLES}), ids=lambda page: page.name)
def test_a_page_of_examples_shows_results(page: Path) -> None:
    assert any(shown for results in outcomes(page).values() for _, shown in results)


@cache
def outcomes(page: Path) -> dict[int, Results]:
    """Return the results of each example of a page, by its line; they share their names, as in one session."""
    reader = Reader({"__name__": page.stem})
    examples = [block for block in blocks(page) if block.is_example]
    return {block.line: [(run(reader, node), shown) for node, shown in statements(block)] for block in examples}


def run(reader: Reader, node: ast.stmt) -> str:
    """Return what a statement prints, the value of an expression included."""
    with redirect_stdout(StringIO()) as out:
        reader.runcode(compile(ast.Interactive([node]), "example", "single"))
    return out.getvalue()


def statements(block: Block) -> Iterator[tuple[ast.stmt, str]]:
    """Yield each statement of an example with what the comments between it and the next say that it prints."""
    body, lines = ast.parse(block.text).body, block.text.splitlines()
    for node, following in pairwise([*body, None]):
        assert node is not None
        below = lines[node.end_lineno : None if following is None else following.lineno - 1]
        comments = [line.removeprefix("# ") for line in below if line.startswith("# ")]
        yield node, "".join(f"{line}\n" for line in comments)
