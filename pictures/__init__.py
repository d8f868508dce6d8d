"""Pictures: slices of volumes and figures of tables, as matplotlib figures."""
