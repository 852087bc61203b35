"""codechoir: one code expert per programming language, composed into one Mixture-of-Experts model and measured."""

__version__ = "0.1.0"
