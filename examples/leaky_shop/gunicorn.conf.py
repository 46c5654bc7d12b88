"""One process, so that a look at the dashboard is a look at everything; eight threads, so that bugs meet."""

worker_class = "gthread"
workers = 1
threads = 8
graceful_timeout = 5
# Newer gunicorns would put a socket into the home folder. Older ones skip what they do not know.
control_socket_disable = True
