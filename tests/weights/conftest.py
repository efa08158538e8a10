"""Fixtures for tests of weights."""

from web_site import site

__all__ = ["site"]
