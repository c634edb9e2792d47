"""Measuring programs in a disposable process: limits, verification, timing, and a status for every way to fail."""

from tuner.measure.measurer import Limits, Measurement, Measurer
from tuner.measure.protocol import Protocol

__all__ = ["Limits", "Measurement", "Measurer", "Protocol"]
