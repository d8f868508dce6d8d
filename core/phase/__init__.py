"""Phase: decoded from what scanners store, unwrapped, and fitted by a field."""
