"""Where answers come from. One backend, one file; `base.py` says what each must offer.

The built-in engine (`transformers`) reads checkpoints itself. The others stand on lm-evaluation-harness' `LM` classes
(`_lm_eval.py`): served endpoints, its own transformers class, and engines that it wraps.
"""
