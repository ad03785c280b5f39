"""Qt, CTK and qMRML widgets as the application has them."""
