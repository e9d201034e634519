"""What the pages say about the checkout: links, files, commands, and that every block of code is held by some test."""

import ast
import re
import subprocess
from itertools import takewhile
from pathlib import Path

import pytest
from tests.docs.pages import CHECKOUT, PAGES, Command, blocks, code, links, programs, rows, sessions, shell_commands
from tests.docs.walk import STEPS, step_of, to_run
from typer.testing import CliRunner

from mainstem.cli.main import app

README, GUARANTEES = CHECKOUT / "README.md", CHECKOUT / "docs" / "guarantees.md"
#: A diagram is `text`; a program says by its first line what it is saved as; other Python is for test_examples.py.
#: `sh` is run on the platform of the walk, `bash` on a server of its own by test_serving_page.py.
LANGUAGES = {"sh", "bash", "python", "text"}
FOLDERS = {folder.name for folder in CHECKOUT.glob("[!.]*/")}
NAMED = sorted({text for page in PAGES for text in code(page)})


def shown(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def paths(texts: list[str]) -> list[str]:
    """Return those texts that name a file or a folder of the checkout, or several by a pattern."""
    return [text for text in texts if "/" in text and text.partition("/")[0] in FOLDERS and "<" not in text]


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_the_links_of_a_page_lead_to_files_that_are_there(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    assert [path for path in paths(code(page)) if not list(CHECKOUT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_a_block_of_code_says_what_it_is(page: Path) -> None:
    assert [f"{shown(page)}:{block.line}" for block in blocks(page) if block.language not in LANGUAGES] == []


def test_every_command_on_a_page_is_run_or_is_a_target_of_make() -> None:
    assert [command for command in to_run() if not {command.text, command.text.partition(" ")[0]} & set(STEPS)] == []


def test_every_step_of_the_walk_stands_on_a_page_once() -> None:
    steps = [step_of(command) for command in to_run()]
    assert len(steps) == len(STEPS)
    assert all(step in steps for step in STEPS.values())


def test_every_program_on_a_page_is_run_by_a_command() -> None:
    written = [block.file_name for page in PAGES for block in blocks(page) if block.language == "python"]
    served = [command for page in PAGES for commands, _ in sessions(page) for command in commands]
    ran = {
        word
        for command in (*to_run(), *served)
        if command.text.startswith("python ")
        for word in command.text.split()[1:2]
    }
    assert sorted(name for name in written if name) == sorted(word for word in ran if not (CHECKOUT / word).is_file())


@pytest.mark.parametrize("name", sorted(programs()))
def test_a_program_names_no_private_thing_of_the_platform(name: str) -> None:
    found = [node.attr for node in ast.walk(ast.parse(programs()[name])) if isinstance(node, ast.Attribute)]
    assert [attribute for attribute in found if attribute.startswith("_")] == []


@pytest.mark.parametrize(
    "command", [command for command in shell_commands() if command.text.startswith("make ")], ids=lambda c: c.place
)
def test_a_documented_target_of_make_exists_and_is_not_run_here(command: Command) -> None:
    assert knows_target(command.text)


@pytest.mark.parametrize("text", [text for text in NAMED if re.match(r"make [a-z]+", text)])
def test_a_target_of_make_named_in_prose_exists(text: str) -> None:
    assert knows_target(text)


@pytest.mark.parametrize("text", [text for text in NAMED if text.startswith("mainstem ")])
def test_a_command_named_in_prose_exists(text: str) -> None:
    words = list(takewhile(lambda word: re.fullmatch("[a-z]+", word), text.split()[1:]))
    answer = CliRunner().invoke(app, [*words, "--help"], prog_name="mainstem")
    assert (answer.exit_code, f"mainstem {' '.join(words)}" in answer.output) == (0, True)


def test_every_result_names_the_command_that_reproduces_it() -> None:
    reproduced = [row[2] for row in rows(README)]
    assert len(reproduced) >= 10
    assert all(re.fullmatch("`(make|mainstem) [a-z ]+`", command) for command in reproduced)


@pytest.mark.parametrize("row", rows(GUARANTEES), ids=lambda row: row[0])
def test_a_guarantee_names_the_tests_that_hold_it(row: list[str]) -> None:
    assert [path for path in paths(re.findall("`([^`]+)`", row[2])) if "tests" in path]


def knows_target(command: str) -> bool:
    """Tell whether make knows what to do, without doing it."""
    asked = (*command.split(), "--dry-run")
    return subprocess.run(asked, cwd=CHECKOUT, capture_output=True, check=False).returncode == 0
