"""Logits → weights: the loop, its losses, and where it goes on from.

Others use what is named below; losses, optimizer, checkpoints, processes and machine are this room's own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["synchrony"],
    submod_attrs={
        "history": ["read_history"],
        "trainer": ["Trainer", "require_checkpoint"],
        "needs": ["check_labels", "check_needs"],
        "progress": ["Progress"],
        "concerns": ["find_concerns"],
        "launch": ["start_training"],
        "debug": ["explain_speed", "measure_gradients", "overfit_batch", "time_stages"],
    },
)
