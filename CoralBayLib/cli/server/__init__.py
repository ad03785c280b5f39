"""`coralbay serve`, and the options of commands that embed on a server."""
