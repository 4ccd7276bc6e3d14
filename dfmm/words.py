"""Numbers in sentences."""


def count_noun(number: int, noun: str) -> str:
    """Return `1 video`, or `3 videos`."""
    return f"{number} {noun}{'s' * (number != 1)}"
