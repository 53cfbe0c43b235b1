"""One worker process: its start, its tasks, what it tells of itself, its end."""
