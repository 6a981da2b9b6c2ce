"""Test corpora, committed before what is measured with them; the unseen ones by others."""
