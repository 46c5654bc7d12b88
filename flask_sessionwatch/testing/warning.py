"""What a finding is as a warning, so that ``-W`` and ``filterwarnings`` rule over it."""


class SessionWatchWarning(UserWarning):
    """What a test left open, or did wrong, with SQLAlchemy sessions and connections."""


SessionWatchWarning.__module__ = "flask_sessionwatch.testing"
