"""Time that a driver, an engine and an ORM spend on a call besides the statement itself.

A query that is sent once per row costs more than its statements: SQLAlchemy builds and compiles each
query, sets up its result and creates objects, which is most of the time of a lazy load on SQLite.
No event marks the start and the end of a call, so its overhead is estimated from two measured times:

- The *set-up*, from the end of the execution to the first fetch of its rows. Little else runs there. It
  is a nearly constant share of the work on a call, whatever the machine, its load and the database are;
  :data:`OVERHEAD_PER_SETUP` has the inverse of that share.
- The *step*, from the end of the previous execution of the request to the start of this one. It contains
  the overhead, the fetching of the previous rows, and whatever else the request does for each row, so it
  is an upper bound.

The smaller estimate is the overhead. Both are recorded, and compared over all requests: in a single one
chance decides which of them contains the pauses of a busy machine. A longer step contains work that
remains after the repair: the loop's own, and the creation of objects, which a join has to create too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .fastpath import DRIVER, ENGINE, LAZY, ORM

if TYPE_CHECKING:
    from .n_plus_one import StatementGroup

OVERHEAD_PER_SETUP: Mapping[int, float] = {DRIVER: 2.4, ENGINE: 2.8, ORM: 3.6, LAZY: 4.1}
"""Overhead of a call as a multiple of its set-up, by sender; measured on SQLAlchemy 2.0 and 2.1."""

GroupKey = tuple[int, str, str]
"""Database, identity of the fingerprint, and call site."""


Call = tuple[GroupKey, int, int]
"""One execution: key of its group, start, and end before rows are fetched, in nanoseconds."""


class _Steps:
    """Executions of one group and the steps between them; times are nanoseconds."""

    __slots__ = ("calls", "count", "executing_ns", "total_ns")

    def __init__(self) -> None:
        self.calls = self.executing_ns = 0
        self.count = self.total_ns = 0  # of the steps


def add_overhead(groups: Mapping[GroupKey, StatementGroup], calls: Iterable[Call]) -> None:
    """Set the overhead of the groups of a request.

    Args:
        groups: all of them.
        calls: the first calls of the request, in their order.
    """
    steps: dict[GroupKey, _Steps] = {}
    previous_end: int | None = None
    for group, began, ended in calls:
        row = steps.get(group)
        if row is None:
            row = steps[group] = _Steps()
        if row.calls and previous_end is not None and began > previous_end:
            row.count += 1  # before the first call there may be anything
            row.total_ns += began - previous_end
        row.calls += 1
        row.executing_ns += ended - began
        previous_end = ended
    for key, of_key in groups.items():
        of_key.overhead_ns = round(OVERHEAD_PER_SETUP.get(of_key.sender, 0.0) * of_key.setup_ns)
        of_key.between_ns = _between_ns(of_key, steps.get(key))


def _between_ns(group: StatementGroup, steps: _Steps | None) -> int:
    """Return the time between the calls of a group, the overhead where no step is known."""
    if steps is None or not steps.count:
        return group.overhead_ns
    fetching_ns = max(0.0, group.total_ns / group.count - steps.executing_ns / steps.calls)
    return round(max(0.0, group.count * (steps.total_ns / steps.count - fetching_ns)))
