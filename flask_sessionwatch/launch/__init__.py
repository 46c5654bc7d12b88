"""What ``flask-sessionwatch run`` puts into and around the command. It is found by its path, and not imported from here."""
