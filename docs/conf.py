"""Configuration of the documentation. The settings table is generated from the code at build time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flask_knitperf import __version__
from flask_knitperf.cli import commands
from flask_knitperf.core import settings

project = "flask-knitperf"
author = "The flask-knitperf authors"
copyright = f"2026, {author}"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "benchmarks/*.json"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"flask-knitperf {__version__}"
html_copy_source = False
html_show_sourcelink = False


class SettingsTable(Directive):
    """Every option, from the same table that reads them."""

    def run(self) -> list[nodes.Node]:
        source = "flask_knitperf.core.settings"
        lines = StringList(settings.markdown().splitlines(), source)
        place = nodes.Element()
        self.state.nested_parse(lines, self.content_offset, place)
        return place.children


class CommandHelp(Directive):
    """Help text of each command of a group."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        attribute, called = self.content[0].split(maxsplit=1)
        group: click.Group = getattr(commands, attribute)
        sections: list[nodes.Node] = []
        for name in group.commands:
            command = group.commands[name]
            # the group itself belongs to flask or python; only its name is shown
            above = click.Context(click.Group(called), info_name=called)
            context = click.Context(command, parent=above, info_name=name, max_content_width=90)
            text = command.get_help(context)
            sections.append(nodes.literal_block(text, text, language="text"))
        return sections


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("settings-table", SettingsTable)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
