"""Result of ``flask knitperf leakhunt --json``."""

from typing import Annotated, TypedDict

from .fields import Count, Field, Share


class ReplayedRequest(TypedDict):
    """The request that was replayed."""

    method: str
    url: str


class AllocationRow(TypedDict):
    """One line that allocates retained memory."""

    file: str
    line: Count
    function: str
    bytes_per_request: float
    native_bytes: Annotated[float, Field("of those, outside of Python objects")]
    share: Annotated[Share | None, Field("of the bytes retained per request")]
    library: Annotated[str, Field("innermost frame of a library, empty without one")]
    stack: list[str]
    every_third_grew: Annotated[bool, Field("whether it grew in every third of the requests")]


class RetainerRow(TypedDict):
    """One object that retains the memory."""

    path: str
    items: Count | None
    items_per_request: float | None
    bound: Annotated[Count | None, Field("largest number of items it can have")]
    dead_references: Annotated[
        bool, Field("whether its newest items are weak references to freed objects")
    ]


class LeakhuntReport(TypedDict):
    """Verdict on a request, with the lines and objects behind it."""

    request: ReplayedRequest
    verdict: str
    leaks: bool
    text: str
    sure: str
    remarks: list[str]
    bytes_per_request: float
    interval_bytes: Annotated[list[float], Field("of bytes_per_request", length=2)]
    blocks: Annotated[Count, Field("blocks of requests that were measured")]
    blocks_grew: Annotated[Count, Field("of those, blocks in which memory grew")]
    lines: list[AllocationRow]
    holders: list[RetainerRow]
    types_per_request: Annotated[dict[str, float], Field("retained objects by type")]
    waiting_bytes: Annotated[float, Field("garbage per request that waits for its collection")]
    waiting_lines: list[AllocationRow]
    resident_bytes: int
    returned_bytes: Annotated[int, Field("of those, returned to the system on request")]
    native_by: Annotated[str, Field("what measured memory outside of Python")]
    requests: Count
    status: Annotated[dict[str, Count], Field("responses by status")]
