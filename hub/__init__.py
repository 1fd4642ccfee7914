"""Weights in, repository out. `pipeline_unirs.py` is published with every checkpoint."""

import transformers  # noqa: F401 - first, because UniRS registers itself once this is loaded
