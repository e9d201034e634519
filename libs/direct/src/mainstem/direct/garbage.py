"""When Python looks for garbage: seldom, in processes whose objects mostly die young."""

import gc


def collect_seldom() -> None:
    """Look for cycles after 5,000 new objects, not 700, and never again among those that the start made.

    A batch is thousands of objects that are no garbage and are gone with it: looking through them again and again, and
    through everything older, took two fifths of the time that judging a record takes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 50)
