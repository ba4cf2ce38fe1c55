"""The shell: arguments, progress, exit status."""
