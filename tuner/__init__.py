"""The tuning engine: from a tensor expression to a measured trial. It knows no SQL and no command line."""
