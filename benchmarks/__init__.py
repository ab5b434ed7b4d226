"""What lakeflight costs and how far that is from what the machine could do: ``benchmarks/run``.

Part of the project, not of the product: it starts servers as a user would and asks them over the network. Every figure
stands beside a limit that was measured in the same run, because the machine's own mood is larger than most changes.
"""
