"""transformers' own server for UniRS, made safe to reach: what stands behind `unirs serve`."""
