"""What is told of a run: sums, reports, lines."""
