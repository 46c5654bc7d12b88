"""Dashboard, JSON and /metrics, served beside the application without passing through it."""

from .application import create_web as create_web
from .mount import Mount as Mount

__all__ = ["Mount", "create_web"]
