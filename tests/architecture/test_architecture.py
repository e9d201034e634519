"""The rules of docs/architecture.md that no linter checks: sizes, names, and lists that must name every folder."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mainstem.events.topics import TOPICS

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
GENERATED = ("_pb2.py", "_pb2_grpc.py")

SOURCES = sorted(
    path
    for part in ("libs", "services")
    for path in (ROOT / part).glob("*/src/**/*.py")
    if not path.name.endswith(GENERATED)
)
TESTS = sorted(
    path for part in ("libs", "services", "projects", "tests") for path in (ROOT / part).glob("**/test_*.py")
)
SERVICES = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "pyproject.toml").is_file())

FILE_LINES, TEST_FILE_LINES, BODY_LINES = 400, 600, 50
#: What an auditor runs, who reads it first.
TOOLS, TOOL_LINES = sorted((ROOT / "tools").glob("*.py")), 200
#: The largest each file of a service may become, where that is less than any file may.
FILE_BUDGETS = {"ports.py": 150, "handlers.py": 250, "memory.py": 200, "api.py": 250, "settings.py": 100, "app.py": 150}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "core", "manager", "misc"}
ANYS_PER_1000_LINES = 5
#: The example project's subject; what is in flight is not meant.
FLIGHTS = re.compile(r"(?<!in )(?<!in-)flight")
#: The one place that may catch everything: it logs, and ends the process.
LAST_STOP = ROOT / "libs/runtime/src/mainstem/runtime/process.py"


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines(path: Path) -> int:
    return path.read_text().count("\n")


def bodies(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function with the lines of its body, the docstring left out."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                yield f"{shown(path)}:{node.lineno} {node.name}", (body[-1].end_lineno or 0) - body[0].lineno + 1


def swallows(node: ast.AST) -> bool:
    """Tell whether an except clause catches everything, and neither raises it again nor tells the loop at its end."""
    if not isinstance(node, ast.ExceptHandler) or isinstance(node.body[-1], ast.Raise) or tells(node.body[-1]):
        return False
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id.endswith("Exception")) for kind in kinds)


def tells(node: ast.stmt) -> bool:
    """Tell whether a statement gives something to the handler of the loop, which logs it."""
    told = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.func
    return isinstance(told, ast.Attribute) and told.attr == "call_exception_handler"


def package_of(service: str) -> str:
    """Return the one package of a service; its name need not be the folder's (ADR 6)."""
    (package,) = (path.name for path in (ROOT / "services" / service / "src/mainstem").iterdir() if path.is_dir())
    return package


def words(path: Path) -> str:
    """Return the code and prose of a file in lower case."""
    return path.read_text().lower()


def test_no_file_is_too_long() -> None:
    assert [f"{shown(path)}: {lines(path)}" for path in SOURCES if lines(path) > FILE_LINES] == []
    assert [f"{shown(path)}: {lines(path)}" for path in TESTS if lines(path) > TEST_FILE_LINES] == []


def test_the_files_of_a_service_keep_their_budgets() -> None:
    over = [
        f"{shown(path)}: {lines(path)}"
        for path in SOURCES
        if shown(path).startswith("services/") and lines(path) > FILE_BUDGETS.get(path.name, FILE_LINES)
    ]
    assert over == []


def test_a_tool_is_short_and_needs_cryptography_alone() -> None:
    assert [f"{shown(path)}: {lines(path)}" for path in TOOLS if lines(path) > TOOL_LINES] == []
    imported = {
        name.split(".")[0]
        for path in TOOLS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in names_of(node)
    }
    assert imported - sys.stdlib_module_names - {path.stem for path in TOOLS} == {"cryptography"}


def test_no_function_is_too_long() -> None:
    assert [
        f"{name}: {length}" for path in (*SOURCES, *TOOLS) for name, length in bodies(path) if length > BODY_LINES
    ] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [shown(path) for path in SOURCES if {path.stem, path.parent.name} & NAMELESS] == []


def test_only_the_last_stop_swallows_everything() -> None:
    broad = {shown(path) for path in SOURCES for node in ast.walk(tree(path)) if swallows(node)}
    assert broad <= {shown(LAST_STOP)}


def test_tests_are_no_packages_and_no_two_have_one_name() -> None:
    assert [shown(path) for part in ("libs", "services") for path in (ROOT / part).glob("**/tests/__init__.py")] == []
    names = [path.name for path in TESTS]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_the_contract_on_rooms_names_every_service_but_the_command_line() -> None:
    (room,) = (contract for contract in PROJECT["tool"]["importlinter"]["contracts"] if contract["id"] == "room")
    rooms = sorted(f"mainstem.{package_of(service)}" for service in SERVICES if service != "cli")
    assert sorted(room["containers"]) == rooms


def test_the_type_checker_sees_every_member() -> None:
    members = sorted(shown(path) for part in ("libs", "services") for path in (ROOT / part).glob("*/src"))
    assert sorted(PROJECT["tool"]["mypy"]["mypy_path"]) == [*members, "tools"]


def test_the_workspace_has_every_member_under_its_name() -> None:
    named = {tomllib.loads(path.read_text())["project"]["name"] for path in ROOT.glob("*/*/pyproject.toml")}
    assert {name for name in PROJECT["tool"]["uv"]["sources"] if name.startswith("mainstem-")} == named


def test_every_service_is_an_image_and_a_container() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    compose = (ROOT / "docker-compose.yml").read_text()
    for service in SERVICES:
        if service != "cli":
            assert re.search(rf"^  {service}:", compose, re.MULTILINE), service
    # One file builds them all.
    assert re.search(r"^ARG SERVICE$", dockerfile, re.MULTILINE)


def test_any_is_rare(capsys: pytest.CaptureFixture[str]) -> None:
    per_1000 = 1000 * sum(map(anys, SOURCES)) / sum(map(lines, SOURCES))
    with capsys.disabled():
        print(f"\nAny: {per_1000:.1f} per 1,000 lines (at most {ANYS_PER_1000_LINES})")
    assert per_1000 <= ANYS_PER_1000_LINES


def anys(path: Path) -> int:
    """Return how often a file says that it does not know a type."""
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree(path)))


@pytest.mark.parametrize(
    "name", ["Dockerfile", "requirements.lock", "bootstrap.lock", "docker-compose.yml", "Makefile"]
)
def test_no_file_that_installs_names_the_host_of_a_registry(name: str) -> None:
    assert (
        re.findall(r"--(?:extra-)?index-url.*|--find-links.*|https?://\S+/simple\S*", (ROOT / name).read_text()) == []
    )


def test_the_platform_knows_nothing_of_its_example_project() -> None:
    told = [shown(path) for path in SOURCES if FLIGHTS.search(words(path))]
    assert told == ["services/cli/src/mainstem/cli/commands/demo.py"]  # the project that it plays if none is named


def test_no_service_imports_a_project() -> None:
    imported = [
        shown(path)
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(name.split(".")[0] in {"projects", "flights"} for name in names_of(node))
    ]
    assert imported == []


def names_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]


def test_only_the_command_line_evaluates_a_project_folder() -> None:
    """ADR 3."""
    callers = [shown(path) for path in SOURCES if "load_folder(" in path.read_text()]
    assert [path for path in callers if not path.startswith(("services/cli/", "libs/project/"))] == []


def test_the_documents_link_to_files_that_are_there() -> None:
    dead = [
        f"{shown(page)}: {target}"
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_the_table_of_topics_in_the_documents_is_the_catalogue() -> None:
    table = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    said = {name.replace("<", "{").replace(">", "}").replace("feature set", "feature_set") for name, _ in table}
    assert said == {row.pattern for row in TOPICS}
