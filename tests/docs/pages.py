"""The Markdown of the checkout: what a reader runs, writes down, follows and looks up."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

CHECKOUT = Path(__file__).parents[2]
#: The README is read first, so its commands are run first.
PAGES = sorted(
    [*CHECKOUT.glob("*.md"), *(page for folder in CHECKOUT.glob("[!.]*/") for page in folder.rglob("*.md"))],
    key=lambda page: (page.name != "README.md", page),
)
#: The first line of a program says what to save it as.
_FILE_NAME = re.compile(r"# (\w+\.py)\b")
_COMMENT = re.compile(r"\s+# .*")
_LINKS = ("link_open", "image")


@dataclass(frozen=True)
class Block:
    """A block of code: the language behind its fence, nothing for one without."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file_name(self) -> str | None:
        """What a program is saved as."""
        named = _FILE_NAME.match(self.text)
        return named[1] if named else None

    @property
    def is_example(self) -> bool:
        """Whether it is Python that stands for itself and shows what comes out."""
        return self.language == "python" and self.file_name is None

    def commands(self) -> Iterator["Command"]:
        """Yield the commands of a block for a shell, their comments left out."""
        for number, text in enumerate(self.text.splitlines(), self.line + 1):
            if text.strip():
                yield Command(f"{self.page.relative_to(CHECKOUT)}:{number}", _COMMENT.sub("", text))


@dataclass(frozen=True)
class Command:
    """A line that a page tells its reader to run."""

    place: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return all blocks of code of a page, with the line of their fence."""
    return [
        Block(page, (token.map or [0])[0] + 1, token.info.strip(), token.content)
        for token in _tokens(page)
        if token.type in ("fence", "code_block")
    ]


def shell_commands() -> list[Command]:
    """Return every command of every page in reading order."""
    found = [block for page in PAGES for block in blocks(page)]
    return [command for block in found if block.language == "sh" for command in block.commands()]


def sessions(page: Path) -> list[tuple[list[Command], str]]:
    """Return the commands of each `bash` block of a page, and what the page shows that they print together."""
    found = blocks(page)
    return [
        (list(block.commands()), following.text if following and following.language == "text" else "")
        for block, following in pairwise([*found, None])
        if block and block.language == "bash"
    ]


def programs() -> dict[str, str]:
    """Return every program of every page under the name it is saved as."""
    found = [block for page in PAGES for block in blocks(page) if block.language == "python"]
    return {block.file_name: block.text for block in found if block.file_name}


def links(page: Path) -> list[str]:
    """Return where the links and images of a page lead within the checkout, anchors left out."""
    targets = [str(token.attrGet("href") or token.attrGet("src")) for token in _words(page) if token.type in _LINKS]
    inside = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    return [target for target in inside if target]


def code(page: Path) -> list[str]:
    """Return what stands between backticks in the prose and the tables of a page."""
    return [token.content for token in _words(page) if token.type == "code_inline"]


def rows(page: Path) -> list[list[str]]:
    """Return the cells of every row of every table of a page, heads left out."""
    return [row for _, *body in tables(page) for row in body]


def tables(page: Path) -> list[list[list[str]]]:
    """Return the cells of every row of each table of a page, its head first."""
    found: list[list[list[str]]] = []
    inside = False
    for token in _tokens(page):
        inside = token.type == "table_open" or (inside and token.type != "table_close")
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and inside:
            found[-1][-1].append(token.content)
    return found


def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def _words(page: Path) -> list[Token]:
    return [word for token in _tokens(page) for word in token.children or []]
