"""The images of a run, read from its store: found by name, decoded, or written to a folder here."""
