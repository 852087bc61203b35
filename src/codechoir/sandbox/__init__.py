"""An untrusted program in, what became of it out. Knows nothing of problems, models or scores."""
