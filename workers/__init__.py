"""Celery in, service call out."""
