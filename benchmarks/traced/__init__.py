"""Numbers of the pages, traced to the files under results/; see benchmarks/pages.py."""

from traced import tables, training_tables
from traced.blocks import BLOCKS

__all__ = ["BLOCKS", "tables", "training_tables"]
