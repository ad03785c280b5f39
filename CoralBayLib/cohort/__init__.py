"""Annotating many scans of the same structures: a folder that knows what is done, suggests what is next, and learns."""

from .cohort import Cohort
from .learner import Learner, Lesson, ProbeLearner, Suggested
from .status import ScanStatus, State

__all__ = ["Cohort", "Learner", "Lesson", "ProbeLearner", "ScanStatus", "State", "Suggested"]
