"""The application under servers that take an object from a module, not a call.

``cheroot benchmarks.harness.entry`` and mod_wsgi's ``WSGIScriptAlias / …/entry.py`` serve it.
"""

from benchmarks.harness.apps import served

application = served()
