"""The pipeline, as Nipype graphs."""
