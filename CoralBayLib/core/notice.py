"""The notice that stands wherever a user could take a result for a diagnosis."""

NOTICE = "For research use only; not a medical device."
