"""Figures 9 to 11 of the paper: one-dimensional models."""
