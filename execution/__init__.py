"""Run graphs: plugins, progress, failures, stages, completion records and locks.

Nothing in this package depends on a particular graph.
"""
