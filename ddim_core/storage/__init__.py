"""An object store by URL, and the layout of a run in it."""
