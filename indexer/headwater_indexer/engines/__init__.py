"""Where a build captures: in this process, or in the workers of a Ray cluster."""
