"""How wrong a run is on this very movie: particles planted into copies, and what the chain makes of them.

Copies live in memory only. Nothing here writes to a store or a table of another stage.
"""
