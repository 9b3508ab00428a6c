"""Tables for tests and benchmarks."""
