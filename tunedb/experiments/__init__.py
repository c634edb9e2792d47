"""Experiments as files: what is asked, run on stored trials or on this machine, and reported with figures."""
