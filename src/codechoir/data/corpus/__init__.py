"""What is told of all files together: near-duplicates, the sample, the split."""
