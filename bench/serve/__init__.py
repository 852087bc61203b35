"""Serving measured: decoding, batching, the server's own time, and what a storm of bad clients does to it."""
