"""``python -m benchmarks.pictures [--requests N]``: write the screenshots of README and docs.

The demo mill, seed 0, is served by two workers of gunicorn and receives its traffic; then a headless
Chromium opens its pages. Names, findings and layout are the same each time; durations are those of the
machine.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from demo_app import traffic
from demo_app.mill import generate
from demo_app.plants import plan
from demo_app.settings import Settings
from tests.web.browser import PROGRAM, Browser

from .harness.demo_mill import ServedMill, served
from .harness.machine import ROOT

FOLDER = ROOT / "docs" / "images"
WIDTH = 1280
HEIGHTS = {"report": 1290, "request": 960}
"""Pixels of each picture, from the top of its page."""
SEED = 0
WORKERS = 2


def main(words: list[str] | None = None) -> int:
    """Run the command line; return 0 if the pictures were written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--requests", type=int, default=traffic.FULL, help="(%(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="(%(default)s)")
    options = parser.parse_args(words)
    if PROGRAM is None:
        print("There is no Chromium; install it, or name it: CHROMIUM=/path", file=sys.stderr)
        return 2
    key = plan(SEED)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        settings = Settings(data=folder / "mill", seed=SEED)
        generate(settings.data, settings.scale, SEED)
        with served(folder / "state", settings, key, WORKERS) as mill:
            requests = traffic.requests(key, options.requests, SEED, least=2)
            traffic.drive(mill.address, requests, clients=WORKERS)
            request = _slowest(mill, key.places["workbooks"].endpoint)
            pages = {"report": "/perf/?window=run", "request": request}
            browser = Browser(PROGRAM, folder / "profile")
            try:
                for name, path in pages.items():
                    picture = _screenshot(browser, mill, path, HEIGHTS[name])
                    (options.folder / f"{name}.png").write_bytes(picture)
                    print(options.folder / f"{name}.png")
            finally:
                browser.close()
    return 0


def _slowest(mill: ServedMill, endpoint: str) -> str:
    """Return the path of the page of an endpoint's slowest stored request."""
    url = f"{mill.address}/perf/why?of={endpoint}&window=run"
    headers = {"Authorization": f"Bearer {mill.token}", "Accept": "application/json"}
    with urlopen(Request(url, headers=headers), timeout=60) as response:
        document = json.load(response)
    return f"/perf/request?id={document['requests']['slowest'][0]['id']}&window=run"


def _screenshot(browser: Browser, mill: ServedMill, path: str, height: int) -> bytes:
    """Return the top of a page as PNG."""
    browser.send("Network.setExtraHTTPHeaders", headers={"Authorization": f"Bearer {mill.token}"})
    browser.open(f"{mill.address}{path}", WIDTH)
    if browser.evaluate("location.pathname") != urlsplit(path).path:
        raise RuntimeError(f"{path} leads to {browser.evaluate('location.href')}")
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
    picture = browser.send("Page.captureScreenshot", format="png", clip=clip,
                           captureBeyondViewport=True)  # fmt: skip
    return base64.b64decode(picture["data"])


if __name__ == "__main__":
    raise SystemExit(main())
