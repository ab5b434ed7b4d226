"""For programs that send telemetry to a lake or ask it questions. Knows the wire formats, and nothing of the server."""
