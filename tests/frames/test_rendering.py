"""Plans as text and as a table."""

from __future__ import annotations

import pandas as pd

from flask_knitperf.frames import plan_dataframe

from .samples import TEXT, mill


def test_a_plan_is_printed_in_eighty_columns_and_as_a_table() -> None:
    frame = mill().assign(
        **{"<script>alert(1)</script>\x1b[31m": TEXT, **{f"c{n}": [n] * 100 for n in range(40)}}
    )
    plan = plan_dataframe(frame, keep=[f"c{n}" for n in range(40)])
    lines = plan.report().splitlines()
    assert max(map(len, lines)) <= 80 and "\x1b" not in plan.report()
    assert lines[0].startswith("100 rows × 46 columns, balanced: ") and "times smaller" in " ".join(
        lines[:2]
    )
    assert any(line.endswith("and 29 more") or line.startswith("and ") for line in lines)
    table = plan._repr_html_()
    assert "<script>" not in table and "&lt;script&gt;" in table and "<table>" in table
    assert plan.as_dict()["columns"][0]["to"] == "category"
    assert (
        plan_dataframe(pd.DataFrame({"a": ["x"]})).report().splitlines()[-2] == "1 unchanged column"
    )
