"""Parts of the distribution of a table's rows: quantile maps, logistics, levels and messages."""
