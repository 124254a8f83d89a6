"""A simulation of what heartbeats and sessions tell of workers: no server is in it, only the rules of docs/verdicts.md.
"""
