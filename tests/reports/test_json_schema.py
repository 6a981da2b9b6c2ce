"""The generator of JSON Schemas, and the types that it reads."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_args, get_type_hints

import pytest

from flask_knitperf.analysis.habits import HABITS
from flask_knitperf.analysis.judged import VerdictType
from flask_knitperf.analysis.latency import LATENCY
from flask_knitperf.reports import json_schema
from flask_knitperf.reports.documents.fields import Count, Field, Share, Window, extensible
from flask_knitperf.storage.windows import NAMES


class Side(StrEnum):
    LEFT = "left"
    RIGHT = "right"


class Row(TypedDict):
    """One row."""

    name: str


class Tree(TypedDict):
    """A type that contains itself."""

    children: list[Tree]


class Sparse(TypedDict, total=False):
    """Two optional fields."""

    a: int
    b: int


@extensible
class Extensible(TypedDict):
    """A type whose writers add keys."""

    name: str


def schema_of(annotation: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the schema of a document whose only field has that type."""

    class Document(TypedDict):
        field: annotation  # type: ignore[valid-type]

    Document.__annotations__["field"] = annotation  # known in this function only
    monkeypatch.setitem(json_schema.PUBLISHED, "document", Document)
    return json_schema.json_schema("document")


@pytest.mark.parametrize("name", json_schema.PUBLISHED)
def test_a_published_schema_is_the_generated_one(name: str) -> None:
    path = json_schema.FOLDER / json_schema.file_name(name)
    assert path.read_text(encoding="utf-8") == json_schema.text(name), "run: make schemas"


def test_only_generated_schemas_are_published() -> None:
    published = {path.name for path in json_schema.FOLDER.iterdir()}
    assert published == {json_schema.file_name(name) for name in json_schema.PUBLISHED}


def test_writing_makes_one_file_per_document(tmp_path: Path) -> None:
    json_schema.write(tmp_path)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {
        json_schema.file_name(name): json_schema.text(name) for name in json_schema.PUBLISHED
    }


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (float | None, {"type": ["number", "null"]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Literal["a"], {"const": "a"}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (Side, {"enum": ["left", "right"]}),
        (Literal["a", "b"] | None, {"enum": ["a", "b", None]}),
        (Literal["a"] | None, {"anyOf": [{"const": "a"}, {"type": "null"}]}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (int | str | None,
         {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}),
        (Row, {"$ref": "#/$defs/Row"}),
        (Row | None, {"anyOf": [{"$ref": "#/$defs/Row"}, {"type": "null"}]}),
        (Annotated[list[int], Field(length=2)],
         {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}),
        (Annotated[Share | None, Field("of the whole")],
         {"type": ["number", "null"], "minimum": 0, "maximum": 1, "description": "of the whole"}),
        (Annotated[str, Field(format="date-time")], {"type": "string", "format": "date-time"}),
        (Annotated[dict[str, Count], Field(keys=("a",), key_pattern="^[a-c]$")],
         {"type": "object", "required": ["a"], "additionalProperties": False,
          "patternProperties": {"^[a-c]$": {"type": "integer", "minimum": 0}}}),
    ],
)  # fmt: skip
def test_a_type_becomes_a_schema(
    annotation: Any, schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert schema_of(annotation, monkeypatch)["properties"]["field"] == schema


def test_a_row_type_becomes_a_definition_with_its_docstring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert schema_of(list[Row], monkeypatch)["$defs"] == {
        "Row": {
            "type": "object", "description": "One row.", "properties": {"name": {"type": "string"}},
            "required": ["name"], "additionalProperties": False,
        }
    }  # fmt: skip


def test_a_type_may_contain_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    children = schema_of(Tree, monkeypatch)["$defs"]["Tree"]["properties"]["children"]
    assert children["items"] == {"$ref": "#/$defs/Tree"}


def test_optional_keys_are_not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "required" not in schema_of(Sparse, monkeypatch)["$defs"]["Sparse"]
    document = schema_of(NotRequired[int], monkeypatch)
    assert document["properties"]["field"] == {"type": "integer"}
    assert "required" not in document


def test_an_extensible_type_accepts_additional_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    definition = schema_of(Extensible, monkeypatch)["$defs"]["Extensible"]
    assert "additionalProperties" not in definition


@pytest.mark.parametrize(
    "annotation", [bytes, set[int], tuple[int, str], dict[int, str], Annotated[int, "note"]]
)
def test_a_type_without_a_schema_is_refused(
    annotation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TypeError):
        schema_of(annotation, monkeypatch)


def test_two_types_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(TypedDict):
        id: int

    Other.__name__ = Row.__name__
    with pytest.raises(TypeError, match="two types are named Row"):
        schema_of(Row | Other, monkeypatch)


def test_the_documents_name_every_window() -> None:
    assert get_args(get_type_hints(Window)["name"]) == (*NAMES, "span")


def test_every_verdict_has_a_published_type() -> None:
    types = {rule.type for rule in LATENCY} | {habit.type for habit in HABITS} | {"SLOWED_BY"}
    assert set(get_args(VerdictType)) == types
