"""Tables of a database, and the writes by which each of them may change.

The text of a write names one table, but others change with it: a foreign key cascades, a trigger writes
to another table, a view stands for its tables, a partition is a part of its parent. So a cached result
depends on all tables whose write may change what it reads. Names are compared without schema and in
lower case, which adds dependencies and never misses one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .cacheable import definition_refusal

Query = Callable[[str], list[tuple[Any, ...]]]
"""Runs a statement; returns its rows."""

_WORD = _WORDS = re.compile(r"[\w$]+")
_WRITES = re.compile(r"\b(?:insert|update|delete|merge|truncate|copy)\b", re.IGNORECASE)
_CALLS = re.compile(r"\b(?:execute|perform|call|select|dblink\w*)\b", re.IGNORECASE)
_VIEW = re.compile(r"\bas\b(.*)", re.IGNORECASE | re.DOTALL)

_POSTGRES_RELATIONS = """
SELECT c.relname::text, c.relkind::text, c.relrowsecurity,
       CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND left(n.nspname::text, 4) <> 'pg_t'
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
"""
_POSTGRES_EDGES = """
SELECT a.relname::text, b.relname::text, 'cascade' FROM pg_constraint k
  JOIN pg_class a ON a.oid = k.conrelid JOIN pg_class b ON b.oid = k.confrelid
  WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
UNION ALL
SELECT a.relname::text, b.relname::text, 'part' FROM pg_inherits i
  JOIN pg_class a ON a.oid = i.inhrelid JOIN pg_class b ON b.oid = i.inhparent
UNION ALL
SELECT DISTINCT v.relname::text, b.relname::text, 'view' FROM pg_rewrite r
  JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> v.oid
  JOIN pg_class b ON b.oid = d.refobjid
UNION ALL
SELECT c.relname::text, '', 'rule' FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
  WHERE r.rulename <> '_RETURN'
"""
_POSTGRES_TRIGGERS = """
SELECT c.relname::text, l.lanname::text, p.prosrc FROM pg_trigger t
  JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
  JOIN pg_language l ON l.oid = p.prolang
  WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
"""
_REFUSED_KINDS = {"f": "is a foreign table", "S": "is a sequence"}


class Catalog:
    """Relations of one database.

    Attributes:
        names: of all relations, in lower case.
        refusals: by name, why what reads it is not cached.
        reads: by name of a view, the relations in it.
        changed_by: by name, the relations whose writes may change it.
        change_anything: names of relations whose writes may change any other one.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.refusals: dict[str, str] = {}
        self.reads: defaultdict[str, set[str]] = defaultdict(set)
        self.changed_by: defaultdict[str, set[str]] = defaultdict(set)
        self.change_anything: set[str] = set()

    def mentioned(self, text: str) -> set[str]:
        """Return the relations whose names occur in a text, at least all that it reads or writes."""
        lowered = text.lower()
        words = self.names.intersection(_WORDS.findall(lowered))
        return words | {
            name for name in self.names if not _WORD.fullmatch(name) and name in lowered
        }

    def refusal(self, names: Iterable[str]) -> str:
        """Return why what reads some relations is not cached, empty if it may be."""
        for name in _reached(names, self.reads):
            if name in self.refusals:
                return self.refusals[name]
        return ""

    def dependencies(self, names: Iterable[str]) -> frozenset[str]:
        """Return all relations on whose writes a result depends that reads some relations."""
        return _reached({*names, *self.change_anything}, self.changed_by)

    def add_view(self, view: str, table: str) -> None:
        """Add a relation that a view reads; a write to the view may change it."""
        self.reads[view].add(table)
        self.add_part(view, table)

    def add_part(self, one: str, other: str) -> None:
        """Add two relations that have rows in common."""
        self.changed_by[one].add(other)
        self.changed_by[other].add(one)

    def add_trigger(self, table: str, body: str, *, is_known: bool) -> None:
        """Add a trigger.

        Args:
            table: whose writes run it.
            body: its code.
            is_known: whether all that it writes stands in its code.
        """
        if not is_known:
            self.change_anything.add(table)
        elif _WRITES.search(body):
            for name in self.mentioned(body):
                self.changed_by[name].add(table)


def _reached(names: Iterable[str], edges: Mapping[str, set[str]]) -> frozenset[str]:
    """Return names and all that can be reached from them."""
    pending, reached = list(names), set[str]()
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += edges.get(name, ())
    return frozenset(reached)


def postgres_catalog(query: Query, pure: frozenset[str]) -> Catalog:
    """Return the catalog of a PostgreSQL database.

    Args:
        query: runs a statement there.
        pure: see :func:`.facts_of`.
    """
    catalog = Catalog()
    for relation, kind, has_policies, definition in query(_POSTGRES_RELATIONS):
        name = relation.lower()
        catalog.names.add(name)
        if has_policies:
            catalog.refusals[name] = f"{relation} has row-level security"
        elif kind in _REFUSED_KINDS:
            catalog.refusals[name] = f"{relation} {_REFUSED_KINDS[kind]}"
        elif definition is not None:
            reason = definition_refusal(definition.strip().rstrip(";"), pure)
            if reason:
                catalog.refusals[name] = f"the view {relation}: {reason}"
    for one, other, kind in query(_POSTGRES_EDGES):
        if one.lower() not in catalog.names:  # of the system
            continue
        if kind == "rule":
            catalog.change_anything.add(one.lower())
        elif kind == "view":
            catalog.add_view(one.lower(), other.lower())
        elif kind == "cascade":
            catalog.changed_by[one.lower()].add(other.lower())
        else:
            catalog.add_part(one.lower(), other.lower())
    for table, language, body in query(_POSTGRES_TRIGGERS):
        is_known = language == "plpgsql" and not _CALLS.search(body)
        catalog.add_trigger(table.lower(), body, is_known=is_known)
    return catalog


def sqlite_catalog(query: Query, pure: frozenset[str]) -> Catalog:
    """Return the catalog of a SQLite database and of those that are attached.

    Args:
        query: runs a statement there.
        pure: see :func:`.facts_of`.
    """
    catalog = Catalog()
    triggers, views = [], []
    for _, schema, _ in query("PRAGMA database_list"):
        quoted = '"' + schema.replace('"', '""') + '"'
        master = "sqlite_temp_master" if schema == "temp" else f"{quoted}.sqlite_master"
        for kind, name, table, sql in query(f"SELECT type, name, tbl_name, sql FROM {master}"):  # noqa: S608
            if kind in ("table", "view"):
                catalog.names.add(name.lower())
            if kind == "trigger":
                triggers.append((table.lower(), sql or ""))
            elif kind == "view":
                views.append((name, sql or ""))
            elif str(sql).lstrip()[:14].lower() == "create virtual":
                catalog.refusals[name.lower()] = f"{name} is a virtual table"
        for child, parent, on_update, on_delete in query(
            'SELECT m.name, f."table", f.on_update, f.on_delete'  # noqa: S608
            f" FROM {master} m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'"
        ):
            if {on_update, on_delete} - {"NO ACTION", "RESTRICT"}:
                catalog.changed_by[child.lower()].add(parent.lower())
    for name, sql in views:
        definition = _VIEW.search(sql)
        reason = definition_refusal("" if definition is None else definition[1].strip(), pure)
        if reason:
            catalog.refusals[name.lower()] = f"the view {name}: {reason}"
        for table in catalog.mentioned(sql) - {name.lower()}:
            catalog.add_view(name.lower(), table)
    for table, sql in triggers:
        catalog.add_trigger(table, sql, is_known=True)
    return catalog
