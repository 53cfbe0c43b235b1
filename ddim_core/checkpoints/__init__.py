"""Checkpoint folders, read without MindSpore, and the small checkpoint that ships with the package."""

from ddim_core.checkpoints.folder import CheckpointInfo, describe, digest, resolve

__all__ = ["CheckpointInfo", "describe", "digest", "resolve"]
