"""How a graph is run: plugins, progress, failures, stages, receipts and locks. It knows no
graph.
"""
