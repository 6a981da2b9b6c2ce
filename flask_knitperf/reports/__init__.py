"""Reports: from totals to the documents that are published as JSON."""
