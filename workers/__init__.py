"""The worker processes: one for each device of a host, taking chunks from Redis and committing images to the store."""
