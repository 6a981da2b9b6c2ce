"""Views that ask the database: order lists, balances, creating and cancelling.

Planted here: one query per order line, and a query that no index helps.
"""

from __future__ import annotations

from typing import Any

from flask import request

from demo_app.context import connection, demo

Answer = dict[str, Any] | tuple[dict[str, Any], int]

_LINES = "SELECT id, order_no, style_no, pounds FROM order_lines WHERE id <= ? ORDER BY id"
_STYLE = "SELECT fabric, finish FROM styles WHERE style_no = ?"
_JOINED = (
    "SELECT l.id, l.order_no, l.style_no, l.pounds, s.fabric, s.finish FROM order_lines l"
    " JOIN styles s ON s.style_no = l.style_no WHERE l.id <= ? ORDER BY l.id"
)
_ACCEPT = (
    "INSERT INTO web_orders VALUES (?, ?, ?) ON CONFLICT (order_no)"
    " DO UPDATE SET style_no = excluded.style_no, pounds = excluded.pounds"
)
_CANCEL = "INSERT INTO cancellations VALUES (?) ON CONFLICT DO NOTHING"


def n_plus_one() -> Answer:
    """The order lines with their styles' fabric and finish."""
    database, count = connection(), demo().plan.sizes.order_lines
    if demo().fixed:
        rows = database.execute(_JOINED, (count,)).fetchall()
    else:
        rows = []
        for line in database.execute(_LINES, (count,)).fetchall():
            style = database.execute(_STYLE, (line[2],)).fetchone()  # plant: n_plus_one
            rows.append((*line, *style))
    names = ("id", "order", "style", "pounds", "fabric", "finish")
    return {"lines": [dict(zip(names, row, strict=True)) for row in rows]}


def slow_sql(customer: str) -> Answer:
    """Balance of a customer, in cents."""
    table, column = demo().plan.sizes.ledger
    statement = (
        "SELECT COUNT(*), SUM(i.amount), SUM(COALESCE((SELECT SUM(p.amount)"
        f" FROM {table} p WHERE p.{column} = i.invoice_no), 0))"
        " FROM invoices i WHERE i.customer_no = ?"
    )
    row = connection().execute(statement, (customer,)).fetchone()  # plant: slow_sql
    count, invoiced, paid = row
    if not count:
        return {"error": "no such customer"}, 404
    return {"customer": customer, "invoices": count, "balance_cents": int(invoiced - paid)}


def create() -> Answer:
    """Takes an order: {"order", "style", "pounds"}; the same order twice is one order."""
    order = request.get_json()
    try:
        row = (str(order["order"]), str(order["style"]), float(order["pounds"]))
    except (KeyError, TypeError, ValueError):
        return {"error": "an order has order, style and pounds"}, 400
    connection().execute(_ACCEPT, row)
    return {"order": row[0], "style": row[1], "pounds": row[2], "accepted": True}, 201


def cancel(order: str) -> Answer:
    """Cancels an order, known or not yet known, once or again."""
    connection().execute(_CANCEL, (order,))
    return {"order": order, "cancelled": True}
