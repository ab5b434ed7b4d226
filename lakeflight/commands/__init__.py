"""What the command ``lakeflight`` can do without a server of its own: one module each, and what they share."""
