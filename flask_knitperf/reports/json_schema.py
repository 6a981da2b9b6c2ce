"""JSON Schemas (draft 2020-12) of the published documents, generated from their types.

``make schemas`` writes them to ``schemas/``; a test fails when a file differs from its type. Each schema
stands alone: every document and row type is an entry of ``$defs``, described by its docstring, and an
object accepts no property that its type does not name.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from .documents import (
    AlertMessage,
    AlertsReport,
    CacheReport,
    Charts,
    ComparisonReport,
    EndpointReport,
    Live,
    MemoryReport,
    QueriesReport,
    Report,
    RequestReport,
    RulePreview,
)
from .documents.fields import Field, is_extensible

FOLDER = Path(__file__).with_name("schemas")
PUBLISHED: dict[str, type] = {
    "report": Report,
    "alerts": AlertsReport,
    "alert": AlertMessage,
    "charts": Charts,
    "compare": ComparisonReport,
    "live": Live,
    "queries": QueriesReport,
    "cache": CacheReport,
    "memory": MemoryReport,
    "why": EndpointReport,
    "request": RequestReport,
    "rule": RulePreview,
}
"""Type of each document, by the name in its ``schema`` field."""
VERSION = 1
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_PRIMITIVES: dict[object, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null",
}  # fmt: skip
_NULL: Schema = {"type": "null"}


def json_schema(name: str) -> Schema:
    """Return the JSON Schema of a published document.

    Args:
        name: a key of :data:`PUBLISHED`.

    Raises:
        TypeError: the document holds a type that has no JSON Schema.
    """
    definitions = _Definitions()
    root = _object(PUBLISHED[name], definitions)
    return {
        "$schema": DIALECT,
        "$id": f"urn:flask-knitperf:{name}:{VERSION}",
        "title": f"flask-knitperf/{name}/{VERSION}",
        **root,
        "$defs": dict(sorted(definitions.schemas.items())),
    }


def file_name(name: str) -> str:
    """Return the name of the file that holds a published schema."""
    return f"{name}-{VERSION}.json"


def text(name: str) -> str:
    """Return the JSON Schema of a published document as the text of its file."""
    return json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"


def write(folder: Path = FOLDER) -> None:
    """Write the schemas of all published documents.

    Raises:
        OSError: a file cannot be written.
    """
    for name in PUBLISHED:
        (folder / file_name(name)).write_text(text(name), encoding="utf-8")


class _Definitions:
    """Entries of ``$defs``, added by the first reference to each.

    Attributes:
        schemas: by name of the type.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self._types: dict[str, type] = {}

    def reference(self, document: type) -> Schema:
        name = document.__name__
        if self._types.setdefault(name, document) is not document:
            raise TypeError(f"two types are named {name}; a schema needs one name for each")
        if name not in self.schemas:
            self.schemas[name] = {}  # first, for a type may contain itself
            self.schemas[name] = _object(document, self)
        return {"$ref": f"#/$defs/{name}"}


def _object(document: Any, definitions: _Definitions) -> Schema:
    """Return the schema of a ``TypedDict``."""
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for key, hint in get_type_hints(document, include_extras=True).items():
        qualifier = get_origin(hint)
        inner = get_args(hint)[0] if qualifier is NotRequired else hint
        properties[key] = _schema(inner, definitions)
        if qualifier is not NotRequired and key in document.__required_keys__:
            required.append(key)
    schema: Schema = {
        "type": "object",
        "description": " ".join((inspect.getdoc(document) or "").split()),
        "properties": properties,
    }
    if required:
        schema["required"] = required
    if not is_extensible(document):
        schema["additionalProperties"] = False
    return schema


def _schema(hint: Any, definitions: _Definitions) -> Schema:
    """Return the schema of the values of a type."""
    if hint in _PRIMITIVES:
        return {"type": _PRIMITIVES[hint]}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"enum": [member.value for member in hint]}
    if is_typeddict(hint):
        return definitions.reference(hint)
    of = _GENERICS.get(get_origin(hint))
    if of is None:
        raise TypeError(f"{hint!r} has no JSON Schema")
    return of(get_args(hint), definitions)


def _annotated(arguments: tuple[Any, ...], definitions: _Definitions) -> Schema:
    schema = _schema(arguments[0], definitions)
    for field in arguments[1:]:
        if not isinstance(field, Field):
            raise TypeError(f"{field!r} is not a Field")
        schema |= _keywords(field, schema)
    return schema


def _keywords(field: Field, schema: Schema) -> Schema:
    """Return the keywords that a field's metadata adds to the schema of its type."""
    keywords: Schema = {
        name: value
        for name in ("description", "minimum", "maximum", "format")
        if (value := getattr(field, name)) is not None
    }
    if field.length is not None:
        keywords |= {"minItems": field.length, "maxItems": field.length}
    if field.keys:
        keywords["required"] = list(field.keys)
    if field.key_pattern is not None:
        values = schema["additionalProperties"]
        keywords["patternProperties"] = {field.key_pattern: values}
        keywords["additionalProperties"] = False
    return keywords


def _union(members: tuple[Any, ...], definitions: _Definitions) -> Schema:
    """Return the schema of ``X | None`` or of a union of types."""
    present = [member for member in members if member is not type(None)]
    schemas = [_schema(member, definitions) for member in present]
    if len(present) == len(members):
        return {"anyOf": schemas}
    if len(present) > 1:
        return {"anyOf": [*schemas, _NULL]}
    [schema] = schemas
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, _NULL]}


def _literal(values: tuple[Any, ...], _: _Definitions) -> Schema:
    return {"const": values[0]} if len(values) == 1 else {"enum": list(values)}


def _array(arguments: tuple[Any, ...], definitions: _Definitions) -> Schema:
    return {"type": "array", "items": _schema(arguments[0], definitions)}


def _mapping(arguments: tuple[Any, ...], definitions: _Definitions) -> Schema:
    if arguments[0] is not str:
        raise TypeError(f"keys of a JSON object are strings, not {arguments[0]!r}")
    return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}


_GENERICS: dict[object, Callable[[tuple[Any, ...], _Definitions], Schema]] = {
    Annotated: _annotated,
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    list: _array,
    dict: _mapping,
}


if __name__ == "__main__":
    write()
