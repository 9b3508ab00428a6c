"""The mathematics: distributions, priors, encoders and decoders, objectives and their loss."""
