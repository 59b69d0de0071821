"""Fixtures of tests that run the toy stage."""

from .toy_project import project, start

__all__ = ["project", "start"]
