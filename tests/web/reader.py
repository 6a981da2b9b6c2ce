"""Reader of the pages: what a browser, a program or a person gets of them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

from .clients import BEARER

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
VOID = {"meta", "link", "br", "input", "img", "hr", "wbr"}
PAGES = ("/perf/", "/perf/report", "/perf/queries", "/perf/cache", "/perf/memory")


class Page(HTMLParser):
    """A parsed page; an unbalanced or unclosed element is an error.

    Texts have ordinary spaces, also where the page has no-break spaces.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self._within_word = False  # a line may break in a word, which stays one text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute of {tag} occurs twice"
        self.elements.append(
            ("own-script" if _is_own_script(tag, dict(attrs)) else tag, dict(attrs))
        )
        self._within_word = tag == "wbr"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if self._within_word:
            path, start = self.texts.pop()
            self.texts.append((path, start + text))
        elif text:
            self.texts.append((tuple(self.open), text))
        self._within_word = False

    @property
    def text(self) -> str:
        """All text of the page."""
        return " ".join(text for _, text in self.texts)

    def inside(self, *tags: str) -> list[str]:
        """Return the texts inside of elements of all these tags."""
        return [text for path, text in self.texts if set(tags) <= set(path)]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element of a tag."""
        return [attributes for name, attributes in self.elements if name == tag]


def _is_own_script(tag: str, attrs: dict[str, str | None]) -> bool:
    """Return whether an element is the script of all pages, which stands in a file."""
    return (
        tag == "script" and set(attrs) == {"type", "src"} and attrs["type"] == "module"
        and re.fullmatch(r"(/[\w:()%]+)*/perf/pages\.js\?v=[0-9a-f]{16}", attrs["src"] or "") is not None
    )  # fmt: skip


def page(mill: Any, path: str = "/perf/") -> Page:
    """Return a page as a browser with the token gets it."""
    response = mill.get(path, HTTP_ACCEPT=BROWSER, **BEARER)
    assert response.header("Content-Type") == "text/html; charset=utf-8", response.body
    return Page(response.body.decode())


def document(mill: Any, path: str = "/perf/report") -> dict[str, Any]:
    """Return the JSON document of a page."""
    parsed: dict[str, Any] = json.loads(mill.get(path, **BEARER).body)
    return parsed


# -- figures ---------------------------------------------------------------------------------------

UNITS = {"µs": 0.001, "ms": 1.0, "s": 1000.0, "min": 60_000.0, "h": 3_600_000.0}


def in_ms(text: str) -> float | None:
    """Read a duration back."""
    if text == "–":
        return None
    number, unit = text.split()
    return float(number.replace(",", "")) * UNITS[unit]


def about(shown: str, exact: float | None) -> bool:
    """Return whether a shown duration is the exact one, rounded to at least two digits."""
    read = in_ms(shown)
    if exact is None or read is None:
        return exact is None and read is None
    return abs(read - exact) <= max(0.051 * exact, 0.001)


def figures(shown: Page) -> list[dict[str, str]]:
    """Return the figures beside each endpoint, in the order of the page."""
    rows: list[dict[str, str]] = []
    label = None
    for path, text in shown.texts:
        if "summary" not in path or "details" not in path:
            continue
        if path[-1] == "b":
            rows.append({"title": text})
        elif path[-1] == "small":
            label = text
        elif label is not None and rows:
            rows[-1][label], label = text, None
    return rows
