"""For programs that send telemetry to a lake or ask it questions. Imports ``wire`` alone."""
