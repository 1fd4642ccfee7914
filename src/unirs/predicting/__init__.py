"""Whole tables of pictures, pairs and clips, answered row by row: what stands behind `unirs predict`."""
