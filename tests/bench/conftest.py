"""Fixtures for tests of measuring."""

from web_site import site

__all__ = ["site"]
