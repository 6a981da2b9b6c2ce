"""Tests of the analysis layer; they build tables directly."""
