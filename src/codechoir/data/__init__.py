"""The curate stage: sources of code in, filtered, deduplicated and split documents out."""
