"""Phase as scanners store it, unwrapped, and fitted by the field."""
