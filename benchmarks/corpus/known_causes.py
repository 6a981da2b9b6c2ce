"""Small endpoints with one known cause each: the line that takes the time, and the calls it makes.

A line that ends with ``# cause:`` and the name of its case takes nearly all of the time of a request.
How often it runs is measured once per process, so that requests take :data:`SECONDS` on any machine.
Cases without a callee are traps: their line is application code, and any advice for it is wrong.
"""

from __future__ import annotations

import copy
import csv
import difflib
import gzip
import hashlib
import io
import json
import logging
import pickle
import random
import re
import socket
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import jinja2
import numpy as np
import pandas as pd

SECONDS = 0.12  # of a request
_MAX_REPEATS = 2_000_000


@dataclass(frozen=True)
class Case:
    """An endpoint and its cause.

    Attributes:
        name: of the endpoint.
        view: answers a request.
        where: ``file:line`` of the cause.
        callees: names of the callees whose advice is right; empty where none is.
        cause: of the report.
    """

    name: str
    view: Callable[[], str]
    where: str
    callees: tuple[str, ...]
    cause: str = "own_cpu"


_RANDOM = random.Random(18)
_ROWS = [
    {"style": f"S{n}", "kg": n * 1.5, "sizes": list(range(34, 46)), "lot": f"L{n % 40}"}
    for n in range(300)
]
_DOCUMENT = json.dumps(_ROWS)
_TEXT = " ".join(f"lot L{n} merino {n * 7 % 19}.5 kg dyed navy" for n in range(400))
_BYTES = _TEXT.encode() * 5
_WEIGHT = re.compile(r"(\w+\s+)*(\d+)\.5 tons")
_NUMBERS = [_RANDOM.random() for _ in range(20_000)]
_SHEET = "\r\n".join(f"L{n},merino,{n}.5,navy" for n in range(2_000))
_XML = "<lots>" + "<lot id='1'><kg>12.5</kg></lot>" * 400 + "</lots>"
_TABLE = pd.DataFrame({
    "style": [f"S{n % 60}" for n in range(3_000)], "kg": np.arange(3_000) * 1.5,
    "lot": np.arange(3_000),
})  # fmt: skip
_STYLES = sorted(set(_TABLE["style"]))
_WEEKS = np.linspace(0.0, 1.0, 52)
_FOLDER = Path(tempfile.mkdtemp(prefix="known-causes-"))
_PAGE = "<table>\n{% for row in rows %}<td>{{ row.style|upper }} {{ row.kg }}</td>{% endfor %}\n"
(_FOLDER / "page.html").write_text(_PAGE + "</table>", encoding="utf-8")
_PAGES = jinja2.Environment(loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True)
_FILE_PAGE = _PAGES.get_template("page.html")
_TEXT_PAGE = _PAGES.from_string(_PAGE)


def regex(n: int) -> None:
    """Search a text by a constant pattern."""
    for _ in range(n):
        _WEIGHT.search(_TEXT[:60])  # cause: regex


def regex_local(n: int) -> None:
    """Search lines by a pattern of a local variable."""
    pattern = _WEIGHT
    for _ in range(n):
        pattern.fullmatch(_TEXT[:60])  # cause: regex_local


def regex_substitute(n: int) -> None:
    """Replace by a function of the module."""
    for _ in range(n):
        re.sub(r"\d+", "#", _TEXT)  # cause: regex_substitute


def regex_compile(n: int) -> None:
    """Compile patterns that no cache holds."""
    for _ in range(n):
        re.compile(f"(merino|cotton)+ {random.random()}")  # cause: regex_compile


def json_dumps(n: int) -> None:
    """Serialise rows."""
    for _ in range(n):
        json.dumps(_ROWS, indent=1)  # cause: json_dumps


def json_loads(n: int) -> None:
    """Parse a document."""
    for _ in range(n):
        json.loads(_DOCUMENT)  # cause: json_loads


def password(n: int) -> None:
    """Derive a key."""
    hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", max(1, n * 1000))  # cause: password


def checksum(n: int) -> None:
    """Hash data."""
    for _ in range(n):
        hashlib.sha256(_BYTES).hexdigest()  # cause: checksum


def template_text(n: int) -> None:
    """Render a template that is not in a file."""
    for _ in range(n):
        _TEXT_PAGE.render(rows=_ROWS)  # cause: template_text


def template_file(n: int) -> None:
    """Render a template file."""
    for _ in range(n):
        _FILE_PAGE.render(rows=_ROWS)


def template_compile(n: int) -> None:
    """Compile a template in each request."""
    for number in range(n):
        _PAGES.from_string(_PAGE + str(number))  # cause: template_compile


def deepcopy(n: int) -> None:
    """Copy nested rows."""
    for _ in range(n):
        copy.deepcopy(_ROWS)  # cause: deepcopy


class _SlowHandler(logging.Handler):
    """A handler that posts each record."""

    def emit(self, record: logging.LogRecord) -> None:
        """Wait as for a server."""
        time.sleep(0.004)


_LOGGER = logging.getLogger("known_causes")
_LOGGER.propagate, _LOGGER.handlers = False, [_SlowHandler()]


def log_handler(n: int) -> None:
    """Log to a slow handler."""
    for number in range(n):
        _LOGGER.warning("row %d", number)  # cause: log_handler


def compress(n: int) -> None:
    """Compress at the highest level."""
    for _ in range(n):
        zlib.compress(_BYTES, 9)  # cause: compress


def gzip_file(n: int) -> None:
    """Compress as a file."""
    for _ in range(n):
        gzip.compress(_BYTES)  # cause: gzip_file


def zip_file(n: int) -> None:
    """Put files into an archive."""
    for _ in range(n):
        with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("lots.txt", _BYTES)  # cause: zip_file


def csv_reader(n: int) -> None:
    """Read rows."""
    for _ in range(n):
        list(csv.DictReader(io.StringIO(_SHEET)))  # cause: csv_reader


def csv_writer(n: int) -> None:
    """Write rows."""
    writer = csv.writer(io.StringIO())
    rows = [list(row.values()) for row in _ROWS]
    for _ in range(n):
        writer.writerows(rows)  # cause: csv_writer


def xml(n: int) -> None:
    """Parse XML."""
    for _ in range(n):
        ET.fromstring(_XML)  # cause: xml


def pickled(n: int) -> None:
    """Pickle rows."""
    for _ in range(n):
        pickle.dumps(_ROWS)  # cause: pickled


def similar(n: int) -> None:
    """Compare texts."""
    for _ in range(n):
        difflib.SequenceMatcher(None, _TEXT[:300], _TEXT[90:390]).ratio()  # cause: similar


def dates(n: int) -> None:
    """Parse dates."""
    for _ in range(n):
        datetime.strptime("2026-11-02 +0100", "%Y-%m-%d %z")  # cause: dates


def sort(n: int) -> None:
    """Sort numbers."""
    for _ in range(n):
        sorted(_NUMBERS)  # cause: sort


def sleeping(n: int) -> None:
    """Wait."""
    time.sleep(SECONDS)  # cause: sleeping


def network(n: int) -> None:
    """Wait for a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        timer = threading.Timer(SECONDS, theirs.sendall, [b"18.94"])
        timer.start()
        ours.recv(5)  # cause: network
        timer.join()


def iterrows(n: int) -> None:
    """Go through rows."""
    for _ in range(n):
        sum(1 for _ in _TABLE.head(300).iterrows())  # cause: iterrows


def apply_rows(n: int) -> None:
    """Call a function for each row."""
    for _ in range(n):
        _TABLE.head(300).apply(lambda row: row["kg"] * 2 + row["lot"], axis=1)  # cause: apply_rows


def filter_loop(n: int) -> None:
    """Filter the table once for each style."""
    for number in range(n):
        _TABLE[_TABLE["style"] == _STYLES[number % 60]]  # cause: filter_loop


def group_loop(n: int) -> None:
    """Group the table again and again."""
    for _ in range(n):
        _TABLE.groupby("style")["kg"].sum()  # cause: group_loop


def concat_loop(n: int) -> None:
    """Grow a table piece by piece."""
    table = _TABLE.head(10)
    for _ in range(n):
        table = pd.concat([table, _TABLE.head(2)])  # cause: concat_loop


def merge_loop(n: int) -> None:
    """Merge once for each order."""
    for _ in range(n):
        _TABLE.head(500).merge(_TABLE, on="lot")  # cause: merge_loop


def cells(n: int) -> None:
    """Read single cells."""
    for number in range(n):
        _TABLE.loc[number % 3_000, "kg"]  # cause: cells


def workbook(n: int) -> None:
    """Write a workbook."""
    for _ in range(n):
        _TABLE.head(400).to_excel(io.BytesIO())  # cause: workbook


def python_loop(n: int) -> None:
    """Compute in plain Python."""
    total = 0
    for number in range(n):
        total = (total * 31 + number ^ (total >> 7)) % 1_000_003  # cause: python_loop


def python_dicts(n: int) -> None:
    """Build dicts, with methods of built-in types."""
    for _ in range(n):
        [{**row, "kg": round(row["kg"] * 1.1, 2)} for row in _ROWS]  # cause: python_dicts


def text_methods(n: int) -> None:
    """Split and join a text."""
    for _ in range(n):
        "-".join(_TEXT.replace("merino", "wool").split(" "))  # cause: text_methods


_SEARCH, _TEMPLATE = ("a regular expression",), ("a template",)
_KEY: dict[Callable[[int], None], tuple[str, ...]] = {
    regex: _SEARCH, regex_local: _SEARCH, regex_substitute: _SEARCH,
    regex_compile: ("compiling a regular expression",),
    json_dumps: ("JSON",), json_loads: ("JSON",), password: ("password hashing",),
    checksum: ("hashing",), template_text: _TEMPLATE, template_file: _TEMPLATE,
    template_compile: ("compiling a template",), deepcopy: ("copy.deepcopy",),
    log_handler: ("logging",), compress: ("compression",), gzip_file: ("compression",),
    zip_file: ("compression",), csv_reader: ("csv.DictReader and csv.DictWriter",),
    csv_writer: ("csv",), xml: ("XML",), pickled: ("pickling",), similar: ("difflib",),
    dates: ("strptime",), sort: ("sorting",), sleeping: ("time.sleep",), network: ("the network",),
    iterrows: ("iterrows",), apply_rows: ("apply(axis=1)",),
    filter_loop: ("a filter of the whole table",), group_loop: ("grouping in a loop",),
    concat_loop: ("concat in a loop",), merge_loop: ("merge in a loop",),
    cells: ("single cells or rows by loc",), workbook: ("writing a workbook",),
    python_loop: (), python_dicts: (), text_methods: (),
}  # fmt: skip
_WAITING = (log_handler, sleeping, network)


def cases() -> list[Case]:
    """Return the cases, each with a request of :data:`SECONDS`."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    marked = {
        line.rpartition("# cause: ")[2]: number
        for number, line in enumerate(lines, 1)
        if "  # cause: " in line
    }
    result = []
    for work, callees in _KEY.items():
        name = work.__name__
        in_template = f"{_FOLDER.name}/page.html:2"
        where = f"corpus/known_causes.py:{marked[name]}" if name in marked else in_template
        cause = "waiting" if work in _WAITING else "own_cpu"
        result.append(Case(name, _view(work), where, callees, cause))
    return result


def _view(work: Callable[[int], None]) -> Callable[[], str]:
    """Return a view that does the work as often as takes :data:`SECONDS`.

    Work that computes is timed by its CPU time: other processes do not count.
    """
    clock = time.perf_counter if work in _WAITING else time.process_time
    repeats = 1
    while repeats < _MAX_REPEATS:
        start = clock()
        work(repeats)
        took = clock() - start
        if took > SECONDS / 8:
            repeats = max(1, round(repeats * SECONDS / took))
            break
        repeats *= 4

    def view() -> str:
        work(repeats)
        return "done"

    return view
