"""Memory: gauges of the process, garbage collections, leak detection, live DataFrames."""
