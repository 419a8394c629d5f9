"""What everything stands on: records, errors, files, pictures, videos, progress.

Imports nothing else of handi.
"""
