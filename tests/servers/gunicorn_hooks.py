"""A configuration file of gunicorn with the hooks."""

from flask_sessionwatch.integrations.gunicorn import child_exit as child_exit
from flask_sessionwatch.integrations.gunicorn import post_worker_init as post_worker_init
