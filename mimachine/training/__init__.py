"""Training: recipe, loop, resumable state, run directory."""
