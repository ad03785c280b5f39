"""Reports of the scans of a library: kept only where the user asked for it, and shown as sentences of the scans that are found.

Texts come from a table that the user names. They are never read from the headers of scans, and none is made up.
"""

from .kept import add_reports, read_reports, remove_reports
from .sentences import Group, group_sentences, split_sentences

__all__ = ["Group", "add_reports", "group_sentences", "read_reports", "remove_reports", "split_sentences"]
