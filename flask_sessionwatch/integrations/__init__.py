"""Where the watch meets its neighbours, one module for each; none is imported unless you import it."""
