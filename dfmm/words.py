"""Numbers in sentences."""


def count_noun(number: int, noun: str, plural: str = "") -> str:
    """Return `1 video`, or `3 videos`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
