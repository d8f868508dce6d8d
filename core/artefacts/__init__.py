"""Signs of what scanners and converters do to multi-echo images before anyone maps anything."""
