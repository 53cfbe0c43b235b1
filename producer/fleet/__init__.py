"""What the hosts, devices and workers of a fleet say of themselves, as an operator reads it."""
