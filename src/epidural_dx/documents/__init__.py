"""What the faces answer, as plain data: the command line's ``--json`` and the server's bodies."""
