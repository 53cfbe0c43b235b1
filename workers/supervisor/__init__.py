"""The process that starts a worker for each device, watches over it and starts it again."""
