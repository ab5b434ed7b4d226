"""What a partition is, when it is stale, how it is made and read. Knows no view by name and no protocol."""
