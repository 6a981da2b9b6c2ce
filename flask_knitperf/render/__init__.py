"""Rendering: from a document to terminal text, HTML or a picture."""
