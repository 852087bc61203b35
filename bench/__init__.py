"""Benchmarks against other tools; each writes its page of docs/results/. Not part of the installed package."""
