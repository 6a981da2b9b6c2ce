"""The pages and their guard."""
