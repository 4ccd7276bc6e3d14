"""Frames → who is where, and what is cut out.

Others use `track` (one video as later steps see it), `follow` (from file to track, from track to crops), `glances`
(the same of few frames of a long file), `crops` (squares around a face) and `lips` (mouths, frame by frame).
Detectors and where to look are this room's own.
"""

__all__ = ["crops", "follow", "glances", "lips", "track"]
