"""Benchmarks that need a CUDA device."""
