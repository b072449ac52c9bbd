"""The kinds of work. A function with `@job` in a module here is a job type."""
