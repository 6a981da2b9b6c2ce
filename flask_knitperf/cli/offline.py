"""``python -m flask_knitperf …``: commands that read files and never import an application."""

from __future__ import annotations

import click

from ..reports.offline import Offline
from .console import ErrorMessages, json_option
from .frames import frames
from .reading import (
    all_option,
    endpoint_argument,
    method_option,
    other_window_option,
    previous_option,
    print_cache,
    print_memory,
    print_queries,
    print_report,
    print_why,
    window_option,
)

_state_option = click.option(
    "--state", type=click.Path(file_okay=False), required=True, help="The state directory."
)


@click.group("flask_knitperf", cls=ErrorMessages)
def offline() -> None:
    """Read the measurements of an application's workers without importing it."""


@offline.command("report")
@_state_option
@window_option
@previous_option
@json_option
@all_option
def report(state: str, window: str, against: str | None, as_json: bool, everything: bool) -> None:
    """Show what to fix first, the scorecard, and all endpoints."""
    print_report(Offline(state), window, against, as_json, everything=everything)


@offline.command("why")
@endpoint_argument
@_state_option
@method_option
@window_option
@other_window_option
@json_option
def why(
    endpoint: str, state: str, method: str | None, window: str, against: str | None, as_json: bool
) -> None:
    """Show why one endpoint is slow: its lines, parts, file reads and slowest requests."""
    print_why(Offline(state), endpoint, method, window, against, as_json)


@offline.command("queries")
@_state_option
@window_option
@json_option
def queries(state: str, window: str, as_json: bool) -> None:
    """Show SQL statements by total time, and N+1 repeats."""
    print_queries(Offline(state), window, as_json)


@offline.command("cache")
@_state_option
@window_option
@json_option
def cache(state: str, window: str, as_json: bool) -> None:
    """Show what the cache saves, why look-ups missed, and what is not cached."""
    print_cache(Offline(state), window, as_json)


@offline.command("memory")
@_state_option
@json_option
def memory(state: str, as_json: bool) -> None:
    """Show the memory of the workers, its growth, and suspected leaks."""
    print_memory(Offline(state), as_json)


offline.add_command(frames)
