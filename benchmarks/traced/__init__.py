"""Numbers of the pages, traced to the files under results/; see benchmarks/pages.py."""

from traced import sceptic_tables, tables, training_tables
from traced.blocks import BLOCKS

__all__ = ["BLOCKS", "sceptic_tables", "tables", "training_tables"]
