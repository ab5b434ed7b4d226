"""OTLP: requests -> blocks with stable ids (``resources``), and the records of blocks as columns (``records``)."""
