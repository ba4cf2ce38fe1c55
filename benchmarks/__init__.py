"""Measurements that take minutes or need other people's packages; see README.md."""
