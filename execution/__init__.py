"""How a graph is run: plugins, progress, failures, stages, completion records and locks.

Nothing here knows a particular graph.
"""
