"""Composing beside mergekit, cp and stock Mixtral: `make bench-compose` writes docs/results/compose.md."""
