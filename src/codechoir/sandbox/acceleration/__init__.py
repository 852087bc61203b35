"""Ways to the same verdict in less time: what a compiler does anew for every program is done once, and kept.

Each way is an `Acceleration` (table): a plain job in, an equivalent cheaper job out, or none where it would not be
equivalent. Knows nothing of problems, scores or walls.
"""
