"""Models: distributions, priors, encoders and decoders, objectives and the training loss."""
