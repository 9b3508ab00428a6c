"""Two samples of data: whether they come from one distribution, and how far apart they are."""
