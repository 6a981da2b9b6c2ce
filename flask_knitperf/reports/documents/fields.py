"""Fields of documents: number types by unit, and their metadata for JSON Schema.

``Annotated`` types nest: ``Annotated[Share, Field("...")]`` has the bounds of a share and a description.
"""

from dataclasses import dataclass
from typing import Annotated, TypedDict, TypeVar

from ...storage.windows import WindowName

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Field:
    """Metadata of one field, for its schema.

    Attributes:
        description: shown to readers of the schema.
        minimum: least number.
        maximum: greatest number.
        format: of a string, as JSON Schema names it.
        length: of a list: number of its items.
        keys: of a mapping: keys that are always there.
        key_pattern: of a mapping: regular expression of all its keys.
    """

    description: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    format: str | None = None
    length: int | None = None
    keys: tuple[str, ...] = ()
    key_pattern: str | None = None


_EXTENSIBLE: set[object] = set()


def extensible(document: type[T]) -> type[T]:
    """Mark a document whose writers may add keys that its type does not name."""
    _EXTENSIBLE.add(document)
    return document


def is_extensible(document: type) -> bool:
    """Return whether a document may have keys that its type does not name."""
    return document in _EXTENSIBLE


Count = Annotated[int, Field(minimum=0)]
"""Number of things."""
Positive = Annotated[int, Field(minimum=1)]
"""Number of things, at least one."""
Milliseconds = Annotated[float, Field(minimum=0)]
"""Duration in milliseconds."""
Seconds = Annotated[float, Field(minimum=0)]
"""Duration in seconds."""
Megabytes = Annotated[float, Field(minimum=0)]
"""Size in units of 1024 x 1024 bytes."""
Number = Annotated[float, Field(minimum=0)]
"""Any other figure that is never negative: a mean, a rate, a size in bytes."""
Share = Annotated[float, Field(minimum=0, maximum=1)]
"""Part of a whole, 0 to 1."""
Moment = Annotated[str, Field(format="date-time")]
"""Point in time in ISO 8601."""

_Bounds = TypedDict("_Bounds", {"from": Moment, "to": Moment})


class Window(_Bounds):
    """The stretch of time that a document covers."""

    name: WindowName
    run: str
    release: str | None
