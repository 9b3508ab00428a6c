"""Reports: HTML page, figures, tables, comparison of runs."""
