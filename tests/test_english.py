"""The English of docs, docstrings, messages, comments, and test titles: words and phrases to avoid.

A failure names the place, the words, and what to write instead. The table is in words_to_avoid.py;
docs/glossary.md has the words to use. Inline code in `backticks` is not checked.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from words_to_avoid import BANS, DOCSTRING_BANS, FUNCTION_BANS, MESSAGE_BANS, PAGE_BANS, Ban

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "tests/lab/README.md")
DOC_ROOTS = ("docs", "examples", "benchmarks")
CODE_ROOTS: tuple[str, ...] = (
    "planapply",
    "providers",
    "tests",
)
# The list itself, and the texts of plan files of format 1, which are read.
QUOTES_OLD_WORDS = (
    "test_english.py",
    "words_to_avoid.py",
    "planfile_migration.py",
    "test_planfile.py",
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Text(NamedTuple):
    """A piece of English and the line that it begins on."""

    kind: str
    """page, comment, docstring, function (its docstring), message, or title."""
    line: int
    text: str


BANS_OF_KIND = {
    "page": (BANS + PAGE_BANS, ()),
    "comment": (BANS, ()),
    "title": (BANS, ()),
    "message": (BANS + MESSAGE_BANS, ()),
    "docstring": (BANS, DOCSTRING_BANS),
    "function": (BANS, FUNCTION_BANS),
}
"""For each kind, the bans for the whole text, and the bans for its beginning."""


def compiled(ban: Ban, *, beginning: bool) -> re.Pattern[str]:
    pattern = ban.pattern.replace(" ", r"\s+")
    if beginning:
        return re.compile(rf"\A\s*(?:{pattern})")
    return re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.IGNORECASE)


PATTERNS = {
    kind: [
        (compiled(ban, beginning=beginning), ban)
        for beginning, bans in enumerate(both)
        for ban in bans
    ]
    for kind, both in BANS_OF_KIND.items()
}


ANY = {
    kind: re.compile("|".join(f"(?:{pattern.pattern})" for pattern, _ in patterns), re.IGNORECASE)
    for kind, patterns in PATTERNS.items()
}
"""For each kind, whether a text may have a ban at all: one search, of texts that rarely have one."""


def without_code(text: str) -> str:
    """Blank out inline code and link targets; the length and the lines stay."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n`]", "\N{MIDDLE DOT}", match[0])

    return re.sub(r"(?<!`)`[^`]+`(?!`)|(?<=\])\([^()\s]*\)|\bhttps?://\S+", blank, text)


def problems(texts: Iterator[Text]) -> Iterator[tuple[int, str, str]]:
    """Yield (line, words found, what to write instead)."""
    for kind, line, text in texts:
        bare = without_code(text)
        if not ANY[kind].search(bare):
            continue
        for pattern, ban in PATTERNS[kind]:
            for match in pattern.finditer(bare):
                words = " ".join(match[0].split())
                yield line + bare.count("\n", 0, match.start()), words, ban.instead


def page_texts(text: str) -> Iterator[Text]:
    """Yield a Markdown page as one text; its code blocks are messages and comments, so they stay."""
    yield Text("page", 1, text)


def toml_texts(text: str) -> Iterator[Text]:
    """Yield each comment of a TOML file."""
    for number, line in enumerate(text.splitlines(), 1):
        _, mark, comment = line.partition("#")
        if mark:
            yield Text("comment", number, comment)


def python_texts(source: str) -> Iterator[Text]:
    """Yield the comments, docstrings, messages, and test titles of a Python file."""
    yield from _comments(source)
    nodes = list(ast.walk(ast.parse(source)))
    docstrings: set[int] = set()
    for node in nodes:
        if isinstance(node, FUNCTIONS) and node.name.startswith("test_"):
            yield Text("title", node.lineno, node.name.replace("_", " "))
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
            for statement in node.body:
                if text := _docstring(statement):
                    docstrings.add(id(text))
                    kind = _docstring_kind(node) if statement is node.body[0] else "docstring"
                    yield Text(kind, text.lineno, text.value)
    yield from _messages(nodes, source.splitlines(), docstrings)


def _docstring(statement: ast.stmt) -> ast.Constant | None:
    """Return the docstring that a statement is: of a module, class, function, or attribute."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return value if is_text else None


def _comments(source: str) -> Iterator[Text]:
    """Yield each comment, with the lines of one block together."""
    lines: list[str] = []
    begin = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        row = token.start[0]
        if lines and row != last + 1:
            yield Text("comment", begin, "\n".join(lines))
            lines = []
        if not lines:
            begin = row
        lines.append(token.string.lstrip("# "))
        last = row
    if lines:
        yield Text("comment", begin, "\n".join(lines))


def _docstring_kind(node: ast.AST) -> str:
    """Return "function" where the docstring has to begin with an imperative verb."""
    if not isinstance(node, FUNCTIONS):
        return "docstring"
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    is_noun = any("property" in name or "fixture" in name for name in decorators)
    return "docstring" if is_noun or node.name.startswith("test_") else "function"


def _messages(nodes: list[ast.AST], lines: list[str], docstrings: set[int]) -> Iterator[Text]:
    """Yield string literals with a blank; an f-string counts as one text."""
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                part.value if isinstance(part, ast.Constant) else "\N{MIDDLE DOT}"
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in docstrings or id(node) in parts:
                continue
            text = node.value
        else:
            continue
        if " " not in text.strip():
            continue
        rows = node.end_lineno - node.lineno + 1 if node.end_lineno else 1
        if rows == text.count("\n") + 1:
            yield Text("message", node.lineno, text)
        else:  # parts side by side, or escaped line breaks: find the line by the words
            yield from _located(text, node.lineno, lines[node.lineno - 1 : node.lineno - 1 + rows])


def _located(text: str, first: int, lines: list[str]) -> Iterator[Text]:
    """Yield `text` on one line: the one in the source that has the words that are banned, if any."""
    flat = " ".join(text.split())
    found = [words for _, words, _ in problems(iter([Text("message", first, flat)]))]
    number = next((i for i, line in enumerate(lines) for words in found if words in line), 0)
    yield Text("message", first + number, flat)


def files() -> Iterator[Path]:
    """Yield every file that is checked."""
    for name in PAGES:
        path = ROOT / name
        yield from sorted(path.rglob("*.md")) if path.is_dir() else [path]
    for name in (*DOC_ROOTS, *CODE_ROOTS):
        for suffix in ("*.py", "*.toml"):
            yield from sorted((ROOT / name).rglob(suffix))


READERS = {".md": page_texts, ".toml": toml_texts, ".py": python_texts}


def test_no_text_has_words_to_avoid() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {words!r}: write {instead}"
        for path in files()
        if path.name not in QUOTES_OLD_WORDS
        for line, words, instead in sorted(problems(READERS[path.suffix](path.read_text("utf-8"))))
    ]
    assert not wrong, "\n".join(wrong)


def test_inline_code_is_never_wrapped() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for path in files()
        if path.suffix == ".md"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if line.count("`") % 2 and not line.startswith("```")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("kind", "ban"),
    [
        *(("page", ban) for ban in BANS + PAGE_BANS),
        *(("message", ban) for ban in MESSAGE_BANS),
        *(("docstring", ban) for ban in DOCSTRING_BANS),
        *(("function", ban) for ban in FUNCTION_BANS),
    ],
    ids=lambda value: value if isinstance(value, str) else value.example,
)
def test_each_ban_finds_its_example(kind: str, ban: Ban) -> None:
    assert ban.instead in {what for _, _, what in problems(iter([Text(kind, 1, ban.example)]))}


GOOD = (
    "Ask for approval; do not ask twice. Look up a node; look for it. Anyone can.",
    "A spot VM is available, whatever happens. The process exits at the end of the apply.",
    "No hyphen at its ends. At the end the cluster is gone. Dependent nodes; weekend nodes.",
    "Use of tags is up to you; make use of it. The settings of one setting. Not therefore.",
    "Four hours, our labor, the tours, your neighbor. An otherwise precise exercise; a promise.",
    "Print all of the tools. CancelledError. Inline code is not checked: `told`, `cpu-[0..3]`.",
    "Take the lock; the sizes are taken in this order. A recommended amendment. Calmly.",
    "If there is no state, it is unknown where it was. It is as large as it said. Be careful.",
)


@pytest.mark.parametrize("kind", BANS_OF_KIND)
def test_plain_english_passes(kind: str) -> None:
    texts = [Text(kind, 1, text if kind != "function" else f"Return: {text}") for text in GOOD]
    assert list(problems(iter(texts))) == []


def test_the_texts_of_a_python_file_have_their_lines() -> None:
    source = '''\
"""The module."""

class A:
    """What it is."""

    x: int = 0
    """Those that are told."""

    @property
    def whole(self) -> bool:
        """Whether it is whole."""

    def f(self) -> str:
        """The name,

        which shall stay.
        """
        # A comment that
        # somebody wrote.
        raise ValueError(
            f"{self} can't "
            "be had"
        )


def test_nobody_calls() -> None: ...
'''
    assert sorted(problems(python_texts(source))) == [
        (4, "What", "a noun phrase; for a function, an imperative verb"),
        (7, "Those", "a noun phrase; for a function, an imperative verb"),
        (7, "told", "reported, passed, named"),
        (14, "The", "an imperative verb: Return …, Wait until …"),
        (16, "shall", "must, will"),
        (19, "somebody", "another process, another user"),
        (22, "be had", "be available, be offered"),
        (22, "can't be", "cannot <verb>"),
        (26, "nobody", "no one; or name who is missing"),
    ]
