"""Stepping inside: the world model in a browser, and as an environment."""
