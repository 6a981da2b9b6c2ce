"""The front page: every page of the mill, what is planted there, and the way to the report."""

from __future__ import annotations

from flask import current_app, render_template_string, request

from demo_app.context import demo
from demo_app.plants import Place

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Knitting mill</title><link rel="icon" href="data:,"><style>
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:light-dark(#f6f5f1,#16181b);
color:light-dark(#1d2125,#e6e6e3)}
main{max-width:52rem;margin:0 auto;padding:2rem 1rem 4rem}
h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.125rem;margin:2rem 0 .5rem}
p{margin:0 0 1rem;max-width:40rem}
a{color:light-dark(#1d5c8f,#7db8e8)}:focus-visible{outline:3px solid light-dark(#c26a00,#ffb454)}
.report{display:inline-block;padding:.6rem 1rem;border-radius:.4rem;font-weight:600;
text-decoration:none;background:light-dark(#1d5c8f,#7db8e8);color:light-dark(#fff,#10202d)}
ul{list-style:none;margin:0;padding:0}
li{overflow-wrap:anywhere;padding:.7rem 0;border-top:1px solid light-dark(#dcdad3,#33383d)}
code{display:block;font:.875rem/1.5 ui-monospace,monospace;
color:light-dark(#565c62,#a5abb1)}
small{display:block;font-size:.9375rem;color:light-dark(#565c62,#a5abb1)}
</style></head><body><main>
<h1>Knitting mill</h1>
<p>A small ERP{{ " with every problem repaired" if fixed else
" with planted performance problems" }}. Call its pages, then look at what the report makes of
them.</p>
{% if report %}<a class="report" href="{{ report }}">Open the report</a>{% endif %}
{% for title, rows in groups %}<h2>{{ title }}</h2><ul>
{% for place, text in rows %}<li>
{%- if place.method == "GET" %}<a href="{{ root }}{{ place.url }}">{{ place.title }}</a>
{%- else %}{{ place.title }}{% endif %}<code>{{ place.method }} {{ place.url }}</code>
{% if text %}<small>{{ text }}</small>{% endif %}</li>
{% endfor %}</ul>
{% endfor %}</main></body></html>
"""


def index() -> str:
    """The mill's pages as links, planted ones first."""
    mill = demo()
    planted = [(plant.place, plant.golden) for plant in mill.plan.plants if plant.problem]
    places = {place.kind for place, _ in planted}
    rest = [(place, "") for place in mill.plan.places.values() if place.kind not in places]
    title = "Repaired" if mill.fixed else "Planted problems"
    groups: list[tuple[str, list[tuple[Place, str]]]] = [
        (title, [(place, "" if mill.fixed else text) for place, text in planted]),
        ("Without a fault", rest),
    ]
    prefix = None if mill.settings.bare else current_app.config.get("KNITPERF_URL_PREFIX", "/perf")
    return render_template_string(
        _PAGE,
        groups=groups,
        fixed=mill.fixed,
        root=request.script_root,
        report=f"{request.script_root}{prefix}/" if prefix else None,
    )
