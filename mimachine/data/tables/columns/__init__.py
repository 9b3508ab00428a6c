"""Columns of a table: what they hold, their values as numbers, and how they hang together."""
