"""Magnum v1."""
