"""Kinds of sources: one file each, registered by being there."""
