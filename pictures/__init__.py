"""Pictures: planes of volumes and figures of tables, as matplotlib figures of arrays and tables."""
