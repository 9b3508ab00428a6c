"""Log-likelihood: importance sampling, annealed importance sampling, quadrature."""
