"""A run's life as the producer sees it: planned, written, queued, followed, paused, extended, ended."""
