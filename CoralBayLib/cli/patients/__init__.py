"""Commands on many patients."""
