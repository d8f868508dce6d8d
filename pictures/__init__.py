"""Draw planes of volumes and figures of tables: arrays and tables in, matplotlib figures out."""
