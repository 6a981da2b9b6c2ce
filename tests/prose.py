"""Checks the language of the project: banned words and forms in identifiers and in prose.

Run ``python -m tests.prose [PATH ...]`` for a list. The rules are the tables below; each one names the
better form. Exceptions stand in :data:`EXCEPTIONS`, by file and word, with their reason.

Identifiers are checked as a whole and by the words they are made of. Prose is docstrings, comments,
messages (string literals that contain a space), comments in C, text in templates and Markdown outside
of code blocks.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

IDENTIFIERS = frozenset({"found", "made", "told", "given", "asked", "held", "said", "each"})
"""Participles and pronouns that say nothing about the type of a variable."""

WORDS_OF_IDENTIFIERS = frozenset({
    "tell", "tells", "told", "say", "says", "said", "ask", "asks", "asked", "heed", "obey", "nobody",
    "somebody", "anybody", "whoever", "dear", "dearest", "dearer", "stranger",
})  # fmt: skip
"""Words that no identifier may contain, test names included."""

PROSE = (
    (r"told|tells|telling", "reports, returns, publishes, distinguishes"),
    (r"says|said", "states, reports, is documented as"),
    (r"asks|asked|asking", "queries, requests, calls"),
    (r"knows|wants|believes|believed", "caches, subscribes, needs, estimates"),
    (r"somebody|nobody|anybody|whoever|whosoever", "the caller, no one, a client"),
    (r"dear|dearer|dearest", "expensive, most expensive"),
    (r"so many|so much|so often", "that many, n, that often"),
    (r"(?:put|puts|putting|taken) together", "merge, combine, total"),
    (r"let in|lets in", "authorised, admitted"),
    (r"of (?:its|their|his|our) own", "separate, dedicated, its"),
    (r"lately", "recently"),
    (r"anew", "again, from the start"),
    (r"likewise", "the same, or repeat the description"),
    (r"the begin", "the start"),
    (r"no more(?! than)", "no longer, not any more"),
    (r"(?<!there )(?:is|are|was|were) no(?! longer\b| one\b)", "is not a"),
    (r"[Rr]eturns? (?:what|who|whose|how|which|where)", "Return the number of, the list of ..."),
    (r"(?:thing|process|worker|thread|module|request) who", "that"),
)
"""Pattern and better form; matched as whole words, ignoring case."""

FIRST_WORDS = re.compile(r"(?:What|Who|Whose|How|Which|Where|Why)\b")
"""A docstring begins with the type of the thing, not with a question word."""

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("tests/prose.py", "*"): "holds the list",
    ("tests/test_prose.py", "*"): "holds examples of each banned form",
    ("flask_knitperf/reports/documents/report.py", "asked"): "key of a published document",
    ("flask_knitperf/reports/documents/queries.py", "asked_by"): "key of a published document",
    ("flask_knitperf/reports/documents/queries.py", "told_apart"): "key of a published document",
    ("docs/benchmarks/newcomer.md", "*"): "tasks worded by an outside reader",
    ("benchmarks/corpus/", "*"): "written by outside authors who had not seen the detectors",
}
"""By path (or folder, with a slash at its end) and matched text in lower case, or ``*``: the reason."""

_PROSE = re.compile(
    "|".join(rf"\b({pattern})\b" for pattern, _ in PROSE), re.IGNORECASE
)  # one group per row of PROSE


class Violation(NamedTuple):
    """One place that breaks a rule."""

    path: str
    line: int
    text: str
    better: str


def check(paths: Iterable[str] = ()) -> Iterator[Violation]:
    """Yield the violations in files of the project, or in those below some paths."""
    wanted = tuple(Path(path).resolve().relative_to(ROOT).as_posix() for path in paths)
    for path in tracked():
        if wanted and not any(path == place or path.startswith(f"{place}/") for place in wanted):
            continue
        for violation in of_file(path, (ROOT / path).read_text(encoding="utf-8")):
            if not _is_exception(path, violation.text.lower()):
                yield violation


def tracked() -> list[str]:
    """Return the paths of all checked files, relative to the project."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [
        path for path in listing.stdout.splitlines()
        if path.endswith((".py", ".c", ".h", ".html", ".md", ".css", ".js"))
        and (ROOT / path).exists()
    ]  # fmt: skip


def _is_exception(path: str, text: str) -> bool:
    return any(
        (place == path or (place.endswith("/") and path.startswith(place))) and word in ("*", text)
        for place, word in EXCEPTIONS
    )


def of_file(path: str, source: str) -> Iterator[Violation]:
    """Yield the violations in one file; the suffix of ``path`` decides how it is read."""
    if path.endswith(".py"):
        yield from _of_python(path, source)
    elif path.endswith(".md"):
        yield from _of_prose(path, _blank(source, r"^```.*?^```|`[^`\n]*`|\]\([^)]*\)"))
    elif path.endswith(".html"):
        yield from _of_prose(path, _blank(source, r"\{[{%].*?[%}]\}|<[^>]*>|&\w+;"))
    else:
        comments = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
        for comment in comments.finditer(source):
            line = source.count("\n", 0, comment.start())
            yield from _of_prose(path, comment[0], line)


def _blank(source: str, pattern: str) -> str:
    """Return the source with matches replaced by spaces, line breaks kept."""
    return re.sub(
        pattern,
        lambda match: re.sub(r"[^\n]", " ", match[0]),
        source,
        flags=re.DOTALL | re.MULTILINE,
    )


def _of_prose(path: str, text: str, line: int = 0) -> Iterator[Violation]:
    for match in _PROSE.finditer(text.replace("\n", " ")):
        number = line + 1 + text.count("\n", 0, match.start())
        assert match.lastindex is not None
        yield Violation(path, number, match[0], PROSE[match.lastindex - 1][1])


def _of_python(path: str, source: str) -> Iterator[Violation]:
    tree = ast.parse(source)
    docstrings = {
        id(statement.value)
        for node in ast.walk(tree)
        for statement in _statements(node)  # all of them: attributes have docstrings too
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_docstring = id(node) in docstrings
            if is_docstring and FIRST_WORDS.match(node.value.strip()):
                first = node.value.strip().split()[0]
                yield Violation(path, node.lineno, f"{first} ...", "the type of the thing first")
            if is_docstring or " " in node.value:
                prose = re.sub(r"``[^`]*``|:\w+:`[^`]*`", lambda m: " " * len(m[0]), node.value)
                yield from _of_prose(path, prose, node.lineno - 1)
        for name in _names(node):
            words = name.strip("_").lower().split("_")
            if name.strip("_").lower() in IDENTIFIERS or WORDS_OF_IDENTIFIERS & set(words):
                yield Violation(
                    path, getattr(node, "lineno", 1), name, "the thing itself, by its type"
                )
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from _of_prose(path, token.string, token.start[0] - 1)


def _statements(node: ast.AST) -> list[ast.stmt]:
    body = getattr(node, "body", None)
    return body if isinstance(body, list) else []


def _names(node: ast.AST) -> Iterator[str]:
    """Yield the identifiers that a node binds."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.alias) and node.asname:
        yield node.asname
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name


def main(paths: list[str]) -> int:
    """Print the violations; return 1 if there are any."""
    violations = list(check(paths))
    for violation in violations:
        print(f"{violation.path}:{violation.line}: {violation.text!r} -> {violation.better}")
    print(f"{len(violations)} violations")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
