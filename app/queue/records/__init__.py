"""A job as RQ stores it <-> our model, and what else both sides of the house know.

Each part stands by itself, as a command waits for every class that is made on its way.
"""
