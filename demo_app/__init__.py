"""A small knitting-mill ERP whose performance problems are planted, known and movable.

The demo is the corpus of the project: `plan(seed)` lists the planted problem of each endpoint, the
application really is, and whatever watches it must say the same. `DEMO_FIXED=1` serves the
same answers without the problems. `python -m demo_app` generates the data, serves and drives
traffic; `flask --app demo_app run` serves alone.
"""

from demo_app.app import create_app

__all__ = ["create_app"]
