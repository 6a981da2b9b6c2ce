"""Alerts: rules over the history, evaluated by one process of all, and messages of what changed.

Data flows through pure functions up to the database: rows of the history become tallies
(:mod:`.observations`), a condition judges them (:mod:`.conditions`), a state machine turns judgements
into changes (:mod:`.states`), and an evaluator does so for all rules (:mod:`.evaluator`). A backtest
runs the same evaluator over stored rows.
"""
