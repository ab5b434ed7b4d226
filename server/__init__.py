"""The processes: the Flight SQL edge, HTTP ingestion, the workers, and the command."""
