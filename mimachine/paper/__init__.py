"""The experiments of the paper, each a declaration over the library's public parts."""
