"""The study's statistics: pure functions, tables in and tables out."""
