"""What a study looks like: figures and self-contained HTML reports from plain tables, arrays and texts."""
