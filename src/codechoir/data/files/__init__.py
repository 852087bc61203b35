"""What is told of one file by itself: its measures, its licence, whether it is kept, and what is replaced in it."""
