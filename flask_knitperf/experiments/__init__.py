"""Experiments: they run the application on purpose, in processes of their own."""
