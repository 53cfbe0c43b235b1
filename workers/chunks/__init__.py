"""One chunk, from its message to its part in the store."""
