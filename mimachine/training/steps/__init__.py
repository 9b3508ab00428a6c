"""One training step: gradient, compilation, CUDA graphs, and what is checked."""
