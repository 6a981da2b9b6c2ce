"""Measuring frames: their bytes, the lossless bound, cell by cell comparison, peers, real tables."""
