"""Training: recipe, training loop, resumable state and run directory."""
