"""Estimators of likelihoods, mutual information and properties of codes."""
