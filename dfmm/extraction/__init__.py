"""Videos → what is kept of them: once, in parallel, resumable, on many machines.

Others use `extract` (all of a manifest), `tracks` (what was kept, by video), `store` (its files), `shards` (the same in
tars), `cures` (what is done to every video alike) and `pool` (tasks that a broken file cannot stop).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["cures", "extract", "pool", "shards", "store", "tracks"],
    submod_attrs={"extract": ["extract_tracks", "tabulate_tracks"]},
)
