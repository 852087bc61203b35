"""Curation side by side with its peers: `make bench-curate` writes docs/results/curate.md."""
