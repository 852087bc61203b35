"""Evaluation beside the toolchains driven directly: `make bench-evaluate` writes docs/results/evaluate.md."""
