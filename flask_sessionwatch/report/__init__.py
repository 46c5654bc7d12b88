"""Who is told: the dispatcher and its sinks."""
