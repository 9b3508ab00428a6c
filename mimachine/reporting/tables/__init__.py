"""Sections of a report about tables: columns, associations, and rows, in the units of the file."""
