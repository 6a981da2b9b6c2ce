"""Commands that read a state directory and print a document, with or without the application."""

from __future__ import annotations

import click

from ..render import terminal, terminal_cache, terminal_memory, terminal_queries
from ..reports.offline import Offline
from ..storage.windows import NAMES
from .console import print_document, width

_WINDOWS = click.Choice(NAMES)

window_option = click.option("--window", type=_WINDOWS, default="1h", show_default=True)
previous_option = click.option(
    "--against",
    metavar="WINDOW",
    help="Compare with previous, last-week, another window or a release.",
)
other_window_option = click.option(
    "--against", type=_WINDOWS, help="Compare its lines with another window."
)
all_option = click.option(
    "--all", "everything", is_flag=True, help="Show everything to fix, not the first five only."
)
endpoint_argument = click.argument("endpoint")
method_option = click.option(
    "--method", help="HTTP method; by default the one with the largest total time."
)


def print_report(
    state: Offline, window: str, against: str | None, as_json: bool, *, everything: bool
) -> None:
    """Print the report of a window, or its comparison with another one."""
    if against:
        compared = state.against(window, against)
        print_document(compared["rows"], as_json, terminal.comparison(compared, width()))
        return
    document = state.report(window)
    print_document(document, as_json, terminal.report(document, width(), everything=everything))


def print_why(
    state: Offline,
    endpoint: str,
    method: str | None,
    window: str,
    against: str | None,
    as_json: bool,
) -> None:
    """Print one endpoint in detail."""
    document = state.why(endpoint, method, window, against)
    print_document(document, as_json, terminal.why(document, width()))


def print_queries(state: Offline, window: str, as_json: bool) -> None:
    """Print queries and connection pools."""
    document = state.queries(window)
    print_document(document, as_json, terminal_queries.queries(document, width()))


def print_cache(state: Offline, window: str, as_json: bool) -> None:
    """Print the use of the cache."""
    document = state.cache(window)
    print_document(document, as_json, terminal_cache.cache(document, width()))


def print_memory(state: Offline, as_json: bool) -> None:
    """Print the memory of the workers."""
    document = state.memory()
    print_document(document, as_json, terminal_memory.memory(document, width()))
