"""Images of one subject, and of a subject and a template, in one space."""
