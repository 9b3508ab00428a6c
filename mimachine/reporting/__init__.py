"""HTML reports, figures, tables, and comparisons of runs."""
