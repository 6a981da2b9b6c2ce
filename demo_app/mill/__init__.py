"""The mill's data: generated, written once, read by the application."""

from demo_app.mill.generate import generate
from demo_app.mill.store import Mill

__all__ = ["Mill", "generate"]
