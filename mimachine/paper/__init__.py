"""Experiments of the paper, built on the public API of the library."""
