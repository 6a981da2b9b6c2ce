"""Test corpora whose authors have not seen what is measured with them."""
