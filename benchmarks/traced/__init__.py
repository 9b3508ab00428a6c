"""Numbers of the pages, traced to the files under results/; see benchmarks/pages.py."""
