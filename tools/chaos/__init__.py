"""The chaos rig: real workers, Redis and S3 server, broken at random moments, and an audit of what is left."""
