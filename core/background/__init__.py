"""Background field removal: the part of the field that sources outside the mask cause."""
