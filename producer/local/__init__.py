"""What runs on this machine for a producer: its own Redis and workers, their life and death, what the host lacks."""
