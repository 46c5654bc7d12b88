"""What a server loads: the application, with its background thread running."""

from . import create_app
from .worker import Worker

app = create_app()
Worker(app).start()
