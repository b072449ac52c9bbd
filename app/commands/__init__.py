"""Operators' commands, one module for each subject. `app/cli.py` says which there are.

They talk to Redis directly, so that they work when the web process does not.
"""
