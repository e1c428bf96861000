"""One module per part of the page; each takes the report's plain values and gives markup, or None for nothing."""
