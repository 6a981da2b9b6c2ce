"""Tests of the demo mill: its data, its plants, its two modes, its traffic."""
