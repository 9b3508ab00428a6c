"""Messages, seeds, memory limits and atomic files. Imports no other wing."""
