"""Measurements, apart from the tests. `make bench` runs them and writes docs/benchmarks.md.

Each figure stands beside a baseline of the same run, since machines are noisy and differ.
"""
