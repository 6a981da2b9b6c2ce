"""The words the mill uses: pools from which `DEMO_SEED` draws names for what it moves.

A detector that recognises a plant by its name is worthless, so every name can land on every
role: under one seed `fabric_forecast` reads workbooks, under another it is a healthy list.
"""

from __future__ import annotations

# endpoint names that any role may get under seeds other than 0
ENDPOINTS = (
    "fabric_forecast", "machine_suggestions", "bom_explosion", "yarn_requirements",
    "order_detail_list", "customer_balance", "yarn_intelligence", "comprehensive_kpis",
    "knit_orders", "supplier_export", "report_download", "flaky_quote", "jittery_schedule",
    "notes", "session_churn", "stuck_report", "async_quote", "stock_by_id", "style_search",
    "order_create", "order_cancel", "weekly_demand", "supplier_list", "roll_lookup",
    "order_status", "tenant_settings", "dye_lots", "greige_stock", "loom_schedule",
    "shade_matching", "yarn_shortages", "beam_inventory", "piece_goods", "net_requirements",
    "planning_balance", "production_pipeline", "style_costing", "lab_dips", "freight_rates",
    "commission_run", "aging_report", "credit_limits", "vendor_scorecard", "lot_traceability",
    "needle_changes", "shift_output", "machine_downtime", "quality_holds", "second_quality",
    "sample_requests", "price_breaks", "open_orders", "backlog", "lead_times", "reorder_points",
    "cycle_counts", "rack_moves", "ship_notices", "packing_lists", "wash_tests", "gauge_table",
    "yarn_substitutes", "customer_calls", "season_plan", "finishing_queue", "knit_programs",
    "cost_rollup", "consumption_log", "price_board",
)  # fmt: skip

HEALTH = ("health", "ready", "alive", "status")
PING = ("live_ping", "heartbeat", "pulse", "beacon")
LEGACY = ("legacy_path", "old_erp", "moved_page", "v0_gateway")

BLUEPRINTS = (
    "planning", "stock", "sales", "knitting", "purchasing", "dyehouse", "warehouse", "costing",
    "quality", "shipping", "finance", "mill",
)  # fmt: skip
TENANT_BLUEPRINTS = ("tenant", "site", "company", "plant_site")
HOOKS = ("load_tenant", "resolve_mill", "check_licence", "read_site_options", "find_company")

# planning workbooks: the plan lists those that are read, and they are generated
WORKBOOKS = (
    "fabric_plan", "greige_plan", "dye_plan", "machine_plan",
    "finishing_plan", "shipping_plan", "season_plan", "yarn_plan",
)  # fmt: skip

# the bigger workbook of the second reader
HISTORIES = ("machine_history", "needle_history", "shift_history", "beam_history")

# (table, column): the ledger that customer balance sums, its column has no index
LEDGERS = (
    ("payments", "invoice_no"),
    ("receipts", "document_no"),
    ("settlements", "bill_no"),
    ("credits", "voucher_no"),
)
