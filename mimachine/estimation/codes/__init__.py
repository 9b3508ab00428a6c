"""Properties of codes: moments, collapse, nearest neighbours, probes."""
