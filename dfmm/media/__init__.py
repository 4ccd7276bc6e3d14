"""Files ↔ frames and sound, on one clock.

Others use `decode` (what is in a file), `skim` (the same of a long one, few frames of it decoded), `picture` (a frame
in its true shape), `sound` (a stretch of it), `speech` (what is said in it), `encode` and `reencode` (files written),
and of `container` what opens a file, and the error that a bad file is.
"""

__all__ = ["container", "decode", "encode", "picture", "reencode", "skim", "sound", "speech"]
