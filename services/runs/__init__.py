"""Runs over gRPC: a thin face of the Celery application."""
