"""Figures 9 to 11: models of one-dimensional data."""
