"""Experiments on how schedules are searched, without SQL: pools of recorded trials, arms, baselines and summaries."""
