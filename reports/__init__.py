"""Self-contained HTML reports that assemble tables, texts and pictures."""
