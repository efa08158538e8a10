"""The command line. The only part of the package that prints or ends the process."""
