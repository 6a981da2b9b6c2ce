"""No document crosses the border of a package as an untyped mapping."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import flask_knitperf

ROOT = Path(flask_knitperf.__file__).parent
PACKAGES = ("api", "cli", "experiments", "extension.py", "render", "reports", "runtime", "web")
MAPPINGS = ("dict", "Mapping", "MutableMapping")
ALLOWED = {
    # WSGI
    "experiments/in_process.py Request.environ": "WSGI environ",
    "web/guard_middleware.py Environ": "WSGI environ",
    "web/routing.py is_authorised(environ)": "WSGI environ",
    # Flask's own signatures
    "web/routing.py PagesBlueprint.make_setup_state(options)": "options of a registration",
    "web/routing.py PagesBlueprint._build_url(values)": "variables of a rule",
    "web/session_cookie.py Environ": "WSGI environ",
    # stored by lower packages, which check what they read
    "reports/memory.py WorkerIdentity": "identity of a worker, as storage keeps it",
    "runtime/session.py Session._description": "description of a run, as storage keeps it",
    # between the processes of one command
    "experiments/leakhunt/runner.py _native_phase(result)": "fields of a dataclass as JSON",
    "experiments/leakhunt/runner.py _python_phase(result)": "fields of a dataclass as JSON",
    "experiments/leakhunt/runner.py _record(values)": "fields of a dataclass as JSON",
    "experiments/leakhunt/runner.py _run": "fields of a dataclass as JSON",
    "experiments/leakhunt/runner.py _send(message)": "fields of a dataclass as JSON",
    "experiments/leakhunt/runner.py _statuses(result)": "fields of a dataclass as JSON",
    # other than documents
    "api/caches.py CacheOptimizer.__init__(configuration)": "configuration of an application",
    "api/renamed.py Renamed": "accepts the keys of other packages beside those of any document",
    "api/renamed.py Renamed.__init__(document)": "accepts any document",
    "reports/json_schema.py Schema": "a JSON Schema",
    "render/csv_table.py csv_table(rows)": "rows of any document",
    "render/csv_table.py _flat(row)": "a row of any document",
    "render/csv_table.py _flat": "a row of any document, without its tables",
    "runtime/alert_jobs.py AlertJobs.save_rule(values)": "plain values of a rule, as settings have them",
    "web/pages.py _data(rows)": "rows of any document",
}
"""By module and name: the reason."""


def test_documents_are_typed_where_they_cross_the_border_of_a_package() -> None:
    untyped = {name for package in PACKAGES for name in _untyped(ROOT / package)}
    assert untyped - ALLOWED.keys() == set(), "use the types in flask_knitperf/reports/documents"
    assert ALLOWED.keys() - untyped == set(), "no longer needed"


def _untyped(path: Path) -> Iterator[str]:
    """Yield the signatures, fields and aliases of a module or package with an untyped mapping."""
    for module in [path] if path.is_file() else sorted(path.rglob("*.py")):
        name = module.relative_to(ROOT).as_posix()
        tree = ast.parse(module.read_text(encoding="utf-8"))
        yield from (f"{name} {place}" for place in _in_body(tree.body, ""))


def _in_body(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            if any(map(_is_untyped, node.bases)):
                yield f"{prefix}{node.name}"
            yield from _in_body(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _in_signature(node, prefix)
            nested = [stmt for stmt in node.body if isinstance(stmt, ast.FunctionDef)]
            yield from _in_body(list(nested), f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign) and _is_untyped(node.annotation):
            yield f"{prefix}{ast.unparse(node.target)}"
        elif isinstance(node, ast.Assign) and _is_untyped(node.value):
            yield f"{prefix}{ast.unparse(node.targets[0])}"


def _in_signature(node: ast.FunctionDef | ast.AsyncFunctionDef, prefix: str) -> Iterator[str]:
    if _is_untyped(node.returns):
        yield f"{prefix}{node.name}"
    arguments = node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if _is_untyped(argument.annotation):
            yield f"{prefix}{node.name}({argument.arg})"


def _is_untyped(annotation: ast.expr | None) -> bool:
    """Return whether a mapping from strings to anything is part of an annotation."""
    return annotation is not None and any(
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id in MAPPINGS
        and ast.unparse(node.slice).strip("()") == "str, Any"
        for node in ast.walk(annotation)
    )
