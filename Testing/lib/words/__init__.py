"""Tests of search by words, from the vocabulary to the command line."""
