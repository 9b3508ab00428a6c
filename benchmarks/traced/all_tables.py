"""All tables of the pages, by name."""

from traced import demo_tables, sceptic_tables, tables, training_tables
from traced.blocks import BLOCKS

__all__ = ["BLOCKS", "demo_tables", "sceptic_tables", "tables", "training_tables"]
