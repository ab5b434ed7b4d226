"""HTTP ingestion: bodies in, durable blocks and rows, then the answer. Knows nothing of queries."""
