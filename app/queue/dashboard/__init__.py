"""rq-dashboard as a WSGI application that may stand on the open Internet behind a sign-in."""

from app.queue.dashboard.site import build_wsgi

__all__ = ["build_wsgi"]
