"""Estimators of scikit-learn: codes, densities, imputation and outliers of tables and images."""
