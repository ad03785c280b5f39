"""One panel a workflow, in the order of work."""
