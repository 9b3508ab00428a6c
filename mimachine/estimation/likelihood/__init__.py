"""Log-likelihood: importance sampling, annealing, quadrature."""
