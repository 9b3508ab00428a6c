"""Read tables, arrays and images from files."""
