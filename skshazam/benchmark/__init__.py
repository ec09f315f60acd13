"""Protocols, runs and statistics: evidence that one can trust."""

from skshazam.benchmark._comparison import Comparison, compare_methods
from skshazam.benchmark._demo import DemoResult, run_demo
from skshazam.benchmark._statistics import patient_bootstrap_interval

__all__ = [
    "Comparison",
    "DemoResult",
    "compare_methods",
    "patient_bootstrap_interval",
    "run_demo",
]
