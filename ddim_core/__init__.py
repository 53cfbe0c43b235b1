"""What the producer and the workers both stand on: contracts, schedules, storage, and the sampling core."""
