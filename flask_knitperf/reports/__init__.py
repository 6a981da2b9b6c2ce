"""Documents published as JSON, built from the totals of a window and the verdicts on them."""
