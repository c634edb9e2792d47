"""Cost models: from the features of a candidate to a score whose order is that of its speed."""
