"""Data sets: named sets, people's own files, batch sources, preprocessing."""
