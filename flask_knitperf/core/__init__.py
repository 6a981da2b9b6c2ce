"""The heart: recorder, log, table, snapshot. Knows neither Flask nor pandas."""
