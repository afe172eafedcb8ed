"""Many runs that are compared: a table of cells, done one after another."""
