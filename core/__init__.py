"""One scan's numerics: pure functions, arrays in and arrays out."""
