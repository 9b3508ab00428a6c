"""Benchmark of mixed tables: generated rows, anomalies, imputation and likelihood."""
