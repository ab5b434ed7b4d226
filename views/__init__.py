"""One file per view set: its schema, its version, and how blocks become rows."""
