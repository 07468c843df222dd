"""Whether an engine is whole, whose it is, and does here what it did where it was built."""
