"""Tuners: each proposes candidates and learns from their scores, all through the same two calls."""
