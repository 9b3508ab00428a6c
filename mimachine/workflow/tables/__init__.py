"""Runs on tables: generated rows, filled holes, scores of rows, and the data frames of runs."""
