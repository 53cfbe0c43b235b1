"""DDIM sampling on MindSpore: the engine, the compiled step, the pipeline and the service that owns them."""
