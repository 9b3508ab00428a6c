"""Estimators: likelihood, mutual information, codes. Numbers without wording."""
