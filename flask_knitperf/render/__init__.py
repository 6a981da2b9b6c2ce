"""Rendering: from a document to terminal text, HTML or a picture."""

Values = dict[str, object]
"""Values that a template prints, by name."""
