"""The scenarios: each breaks one thing, and returns its figures beside their targets."""
